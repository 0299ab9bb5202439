#include "engine/train/saved_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/io_buffer.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;
using tiering::BlockStore;
using tiering::Verify;

// One of several pages, and one that is smaller than a page.
constexpr uint64_t kLarge = 2 * SavedBlocks::kPageBytes + 5000;
constexpr uint64_t kSmall = 9000;

std::byte ContentOf(uint32_t rank, uint32_t number, uint64_t at) {
  return static_cast<std::byte>((at * 2654435761u >> 13) + 7 * number + 31 * rank);
}

class SavedBlocksTest : public testing::Test {
 protected:
  SavedBlocksTest() {
    for (uint32_t rank = 0; rank < 2; ++rank) WriteStore(rank);
  }

  tiering::BlockStoreOptions Options(uint32_t rank) const {
    return {.directories = {scratch_.path()}, .run_id = "saved", .rank = rank};
  }

  void WriteStore(uint32_t rank) {
    auto store = OrDie(BlockStore::Create(Options(rank), blocks_, engine_.get()));
    auto memory = OrDie(aio::HugeMemory::Map(RoundUp(kLarge, 4_KiB)));
    for (uint32_t number = 0; number < blocks_.size(); ++number) {
      for (uint64_t at = 0; at < blocks_[number].size_bytes; ++at)
        memory.bytes()[at] = ContentOf(rank, number, at);
      ASSERT_TRUE(store->StartWrite(tiering::StoreBlock(number), memory.bytes()).Finish().ok());
    }
    OrDie(store->Commit("", /*pin=*/false));
  }

  SavedBlocks Open(Verify verify) {
    std::vector<std::unique_ptr<BlockStore>> stores;
    for (uint32_t rank = 0; rank < 2; ++rank) {
      tiering::BlockStoreOptions options = Options(rank);
      options.verify = verify;
      options.read_only = true;
      stores.push_back(OrDie(BlockStore::Open(options, blocks_, engine_.get())));
    }
    return {std::move(stores), {kLarge, kSmall}, verify, /*num_pages=*/2};
  }

  // Changes a byte far behind the first page of the large block of rank 1.
  void FlipAByte() {
    const std::string path = scratch_.path() + "/strata-saved/rank-1.blocks";
    std::string bytes(OrDie(aio::ReadSmallFile(path, 1_GiB)));
    std::string sought(64, 0);
    const uint64_t at = SavedBlocks::kPageBytes + 12345;
    for (uint64_t i = 0; i < sought.size(); ++i)
      sought[i] = static_cast<char>(ContentOf(1, 0, at + i));
    const size_t found = bytes.find(sought);
    ASSERT_NE(found, std::string::npos);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(found));
    file.put(static_cast<char>(bytes[found] ^ 1));
  }

  ScratchDirectory scratch_;
  std::unique_ptr<aio::IoEngine> engine_ =
      OrDie(aio::IoEngine::Create({.backend = aio::IoBackend::kPosix}));
  std::vector<tiering::BlockDescription> blocks_ = {{.name = "large", .size_bytes = kLarge},
                                                    {.name = "small", .size_bytes = kSmall}};
};

TEST_F(SavedBlocksTest, AnyRangeOfAnyRanksBlockIsWhatWasWritten) {
  SavedBlocks blocks = Open(Verify::kAlways);
  struct Range {
    SavedBlock block;
    uint64_t begin;
    uint64_t end;
  };
  const uint64_t page = SavedBlocks::kPageBytes;
  for (const auto& [block, begin, end] :
       {Range{{0, 0}, 0, kLarge}, Range{{1, 0}, page - 1, page + 1}, Range{{1, 1}, 17, kSmall},
        Range{{0, 1}, 0, 1}, Range{{0, 0}, kLarge - 1, kLarge}, Range{{1, 0}, 3, 2 * page + 9}}) {
    std::vector<std::byte> out(end - begin);
    ASSERT_TRUE(blocks.Read(block, begin, out).ok());
    for (uint64_t at = begin; at < end; ++at)
      ASSERT_EQ(out[at - begin], ContentOf(block.rank, block.number, at)) << at;
  }
}

// What is checked comes straight to where it is wanted, if that is where a drive can put it.
TEST_F(SavedBlocksTest, CheckedRangesAreTheSameWhereverTheyGo) {
  SavedBlocks blocks = Open(Verify::kAlways);
  blocks.MarkChecked();
  auto memory = OrDie(aio::HugeMemory::Map(RoundUp(kLarge, 4_KiB) + 4_KiB));
  for (const uint64_t begin :
       {uint64_t{0}, uint64_t{4096}, SavedBlocks::kPageBytes, uint64_t{77}}) {
    for (const uint64_t length : {uint64_t{4096}, SavedBlocks::kDirectBytes - 1, kLarge - begin}) {
      for (const uint64_t shift : {0, 1}) {
        SCOPED_TRACE(testing::Message() << begin << " " << length << " " << shift);
        std::ranges::fill(memory.bytes(), std::byte{0xee});
        std::span<std::byte> out = memory.bytes().subspan(shift, length);
        ASSERT_TRUE(blocks.Read({1, 0}, begin, out).ok());
        uint64_t num_wrong = 0;
        for (uint64_t i = 0; i < length; ++i) num_wrong += out[i] != ContentOf(1, 0, begin + i);
        EXPECT_EQ(num_wrong, 0u);
        EXPECT_EQ(memory.bytes()[shift + length], std::byte{0xee});  // nothing behind it
      }
    }
  }
}

TEST_F(SavedBlocksTest, NothingOfADamagedBlockIsGivenOut) {
  FlipAByte();
  SavedBlocks blocks = Open(Verify::kAlways);
  std::vector<std::byte> out(10, std::byte{0xee});
  const Status status = blocks.Read({1, 0}, 0, out);  // of a page that is whole
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("'large'"));
  EXPECT_THAT(status.message(), HasSubstr("rank-1.blocks"));
  EXPECT_TRUE(std::ranges::all_of(out, [](std::byte byte) { return byte == std::byte{0xee}; }));
  EXPECT_TRUE(blocks.Read({0, 0}, 0, out).ok());
}

// Readers that share the work: each finds what is in its share, together they miss nothing.
TEST_F(SavedBlocksTest, SharesOfACheckAreAllOfIt) {
  FlipAByte();
  int num_failed = 0;
  uint64_t bytes = 0;
  for (uint32_t share = 0; share < 3; ++share) {
    SavedBlocks blocks = Open(Verify::kAlways);
    uint64_t total_bytes = 0;
    const Status status =
        blocks.Check(share, 3, [&](uint64_t, uint64_t total) { total_bytes = total; });
    bytes += total_bytes;
    num_failed += status.ok() ? 0 : 1;
  }
  EXPECT_EQ(num_failed, 1);
  EXPECT_EQ(bytes, kLarge + 2 * kSmall);  // the damaged one is not reported done
}

TEST_F(SavedBlocksTest, WhatOthersHaveCheckedIsNotCheckedAgain) {
  FlipAByte();
  SavedBlocks blocks = Open(Verify::kAlways);
  blocks.MarkChecked();
  std::vector<std::byte> out(kLarge);
  EXPECT_TRUE(blocks.Read({1, 0}, 0, out).ok());
}

}  // namespace
}  // namespace strata::engine
