// What the tests of the block store share: a directory, an engine, blocks, and bytes for them.
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "tests/fakes/fault_engine.h"
#include "tests/or_die.h"
#include "tests/tiering/temp_dir.h"
#include "tiering/block_store.h"

namespace strata::tiering {

inline BlockDescription Durable(const std::string& name, uint64_t size_bytes) {
  return {.name = name, .size_bytes = size_bytes};
}

// One that is also written while a commit is pending, or, with two more, into that, too.
inline BlockDescription Rewritten(const std::string& name, uint64_t size_bytes,
                                  uint32_t more_versions = 1) {
  return {.name = name, .size_bytes = size_bytes, .more_versions = more_versions};
}

inline BlockDescription Scratch(const std::string& name, uint64_t size_bytes) {
  return {.name = name, .size_bytes = size_bytes, .durability = Durability::kScratch};
}

// Bytes that tell which seed they were made from.
inline std::vector<std::byte> BytesOf(uint64_t seed, uint64_t size_bytes) {
  std::minstd_rand random(static_cast<uint32_t>(seed * 2654435761u + 1));
  std::vector<std::byte> bytes(size_bytes);
  std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random() >> 8); });
  return bytes;
}

inline std::unique_ptr<aio::IoEngine> NewEngine() {
  return OrDie(aio::IoEngine::Create({.backend = aio::IoBackend::kPosix}));
}

// A store and memory for one operation on it at a time.
class StoreUser {
 public:
  explicit StoreUser(std::vector<BlockDescription> blocks)
      : blocks_(std::move(blocks)), memory_(OrDie(aio::HugeMemory::Map(256_KiB))) {}

  BlockStore& operator*() { return *store_; }
  BlockStore* operator->() { return store_.get(); }
  void Reset(std::unique_ptr<BlockStore> store = nullptr) { store_ = std::move(store); }

  std::span<std::byte> Padded(uint32_t block) {
    return memory_.bytes().first(RoundUp(blocks_[block].size_bytes, 4_KiB));
  }
  Status Write(uint32_t block, uint64_t seed) {
    std::ranges::copy(BytesOf(seed, blocks_[block].size_bytes), memory_.bytes().begin());
    return store_->StartWrite(StoreBlock{block}, Padded(block)).Finish();
  }
  Status WriteInto(PendingCommit& pending, uint32_t block, uint64_t seed) {
    std::ranges::copy(BytesOf(seed, blocks_[block].size_bytes), memory_.bytes().begin());
    return pending.StartWrite(StoreBlock{block}, Padded(block)).Finish();
  }
  Result<std::vector<std::byte>> Read(uint32_t block) {
    std::span<std::byte> into = Padded(block);
    std::ranges::fill(into, std::byte{0xee});
    STRATA_RETURN_IF_ERROR(store_->StartRead(StoreBlock{block}, into).Finish());
    return std::vector(into.begin(),
                       into.begin() + static_cast<ptrdiff_t>(blocks_[block].size_bytes));
  }
  bool Holds(uint32_t block, uint64_t seed) {
    auto bytes = Read(block);
    EXPECT_TRUE(bytes.ok()) << bytes.status().ToString();
    return bytes.ok() && *bytes == BytesOf(seed, blocks_[block].size_bytes);
  }

  const std::vector<BlockDescription>& blocks() const { return blocks_; }

 private:
  std::vector<BlockDescription> blocks_;
  aio::HugeMemory memory_;
  std::unique_ptr<BlockStore> store_;
};

// Blocks 0 and 1 are durable and of different sizes, 2 is scratch.
class StoreTest : public testing::Test {
 protected:
  BlockStoreOptions Options(uint32_t num_generations = 2) const {
    return {.directories = {dir_.path()}, .run_id = "test", .num_generations = num_generations};
  }
  Status Create(const BlockStoreOptions& options) {
    store_.Reset();
    auto store = BlockStore::Create(options, store_.blocks(), &engine_);
    if (store.ok()) store_.Reset(std::move(store).value());
    return store.status();
  }
  Status Open(const BlockStoreOptions& options, std::optional<uint64_t> generation = {}) {
    store_.Reset();
    auto store = BlockStore::Open(options, store_.blocks(), &engine_, generation);
    if (store.ok()) store_.Reset(std::move(store).value());
    return store.status();
  }
  // Writes both durable blocks and commits.
  uint64_t CommitSeeds(uint64_t seed, bool pin = false) {
    EXPECT_TRUE(store_.Write(0, seed).ok());
    EXPECT_TRUE(store_.Write(1, seed + 1000).ok());
    return OrDie(store_->Commit("seed " + std::to_string(seed), pin));
  }
  bool HoldsSeeds(uint64_t seed) { return store_.Holds(0, seed) && store_.Holds(1, seed + 1000); }
  std::string Folder() const { return dir_.path() + "/strata-test"; }

  TempDir dir_;
  fakes::FaultEngine engine_{NewEngine()};
  StoreUser store_{{Durable("a", 10000), Durable("b", 4096), Scratch("s", 5000)}};
};

}  // namespace strata::tiering
