#include "engine/train/state_writer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "tests/engine/train/training_run.h"
#include "tests/fakes/fault_engine.h"

namespace strata::engine {
namespace {

using fakes::FaultKind;
using tiering::BlockStore;
using tiering::Tier;
using Bytes = StateWriter::Bytes;

// Sizes that are no multiples of a page of memory, of which some need more staging than others.
constexpr uint64_t kSizes[] = {40'000, 9'000, 70'001, 1, 70'001, 33'000, 50'000};
constexpr uint64_t kLargest = 72 * 1024;  // in the staging
constexpr uint64_t kHome = 64 * 1024;     // of a block at home in memory: in host or device memory

std::byte ContentOf(uint32_t block, uint64_t at) {
  return static_cast<std::byte>((at * 2654435761u >> 11) + 37 * block);
}

class StateWriterTest : public testing::Test {
 protected:
  StateWriterTest() {
    for (const uint64_t size : kSizes) {
      const auto number = layout_.blocks.size();
      layout_.blocks.push_back({.name = fmt::format("block {}", number), .num_bytes = size});
    }
    layout_.blocks[1].home = Tier::kHost;
    layout_.blocks[5].home = Tier::kDevice;
    for (uint32_t i : {1u, 5u})
      plan_.residents.push_back({.block = prefetch::BlockId(i),
                                 .slot = {.tier = layout_.blocks[i].home, .size_bytes = kHome},
                                 .is_home = true});
    std::vector<tiering::BlockDescription> blocks;
    for (const StateBlock& block : layout_.blocks)
      blocks.push_back({.name = block.name, .size_bytes = block.size_bytes()});
    store_ = OrDie(BlockStore::Create({.directories = {scratch_.path()}, .run_id = "written"},
                                      std::move(blocks), &engine_));
    access_ = std::make_unique<StateAccess>(
        StateAccessParts{&layout_, &plan_, device_.get(), &host_, store_.get()});
  }

  // Behind the block that is at home in host memory.
  void SetStaging(uint64_t bytes) { access_->SetStaging(access_->FreeHostMemory().first(bytes)); }

  static Status Fill(uint32_t block, Bytes content) {
    EXPECT_EQ(content.size(), kSizes[block]);
    for (uint64_t at = 0; at < content.size(); ++at) content[at] = ContentOf(block, at);
    return OkStatus();
  }
  Status WriteAll(StateWriter& writer) {
    for (uint32_t i = 0; i < layout_.blocks.size(); ++i)
      STRATA_RETURN_IF_ERROR(writer.Write(i, [i](Bytes content) { return Fill(i, content); }));
    return writer.Finish();
  }
  void ExpectAllWritten() {
    for (uint32_t i = 0; i < layout_.blocks.size(); ++i) {
      const Status read = access_->Read(i, [i](Bytes content) {
        for (uint64_t at = 0; at < content.size(); ++at)
          if (content[at] != ContentOf(i, at)) return DataLoss(fmt::format("byte {}", at));
        return OkStatus();
      });
      EXPECT_TRUE(read.ok()) << layout_.blocks[i].name << ": " << read.message();
    }
  }

  ScratchDirectory scratch_;
  fakes::FaultEngine engine_{OrDie(aio::IoEngine::Create({.backend = aio::IoBackend::kPosix}))};
  StateLayout layout_;
  prefetch::StepPlan plan_;
  std::unique_ptr<tiering::Device> device_ = OrDie(tiering::CreateCpuDevice(1_MiB));
  tiering::Arena host_ = OrDie(tiering::Arena::Create("host", 1_MiB));
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<StateAccess> access_;
};

// Of memory that a write still reads, nothing may be changed: a late one would write it.
TEST_F(StateWriterTest, WhateverRoomThereIsAllBlocksGetHomeWhole) {
  engine_.plan().SetChances({{aio::IoDirection::kWrite, {FaultKind::kReordered}, 1.0}});
  for (uint64_t staging = kLargest; staging <= 3 * kLargest; staging += 8 * 1024) {
    SCOPED_TRACE(staging);
    SetStaging(staging);
    StateWriter writer(*access_);
    ASSERT_TRUE(WriteAll(writer).ok());
    ExpectAllWritten();
  }
}

TEST_F(StateWriterTest, TheNextIsMadeWhileTheDriveHasTheOneBefore) {
  SetStaging(2 * kLargest);
  StateWriter writer(*access_);
  engine_.SpoilWrite({FaultKind::kHung}, 1);
  ASSERT_TRUE(writer.Write(0, [](Bytes content) { return Fill(0, content); }).ok());
  EXPECT_FALSE(store_->HasVersion(tiering::StoreBlock(0)));
  ASSERT_TRUE(writer
                  .Write(2,
                         [&](Bytes content) {
                           engine_.LetGo();
                           return Fill(2, content);
                         })
                  .ok());
  EXPECT_TRUE(store_->HasVersion(tiering::StoreBlock(0)));
  EXPECT_TRUE(writer.Finish().ok());
  EXPECT_TRUE(store_->HasVersion(tiering::StoreBlock(2)));
}

TEST_F(StateWriterTest, AWriteThatFailsIsSaidLater) {
  SetStaging(3 * kLargest);
  for (uint64_t nth = 1; nth <= 5; ++nth) {  // of seven blocks two are at home in memory
    StateWriter writer(*access_);
    engine_.SpoilWrite({.error_number = EIO}, nth);
    const Status status = WriteAll(writer);
    EXPECT_EQ(status.code(), Code::kIoError) << nth;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("rank-0.blocks"));
  }
}

TEST_F(StateWriterTest, TooLittleRoomNamesTheBlock) {
  SetStaging(kLargest - 4096);
  StateWriter writer(*access_);
  const Status status = WriteAll(writer);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("block 2"));
}

}  // namespace
}  // namespace strata::engine
