// Commits in two halves: what is in them, what is not, and what becomes of them.
#include <filesystem>
#include <thread>

#include "tests/tiering/store_fixture.h"
#include "tiering/block_store.h"

namespace strata::tiering {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

// Block 0 is written in every step, as what is at home on nvme; 1 is kept in memory and written
// into commits only.
class PendingCommitTest : public StoreTest {
 protected:
  PendingCommitTest() {
    store_ = StoreUser({Rewritten("a", 10000, 2), Durable("b", 4096), Scratch("s", 5000)});
    EXPECT_TRUE(Create(Options()).ok());
    CommitSeeds(1);
    EXPECT_TRUE(store_.Write(0, 2).ok());
  }
  std::unique_ptr<PendingCommit> Begin(bool pin = false) {
    return OrDie(store_->BeginCommit("pending", pin));
  }
  // As a crash now would leave it.
  bool ACrashNowLeaves(uint64_t a, uint64_t b) {
    TempDir elsewhere;
    fs::copy(dir_.path(), elsewhere.path(), fs::copy_options::recursive);
    BlockStoreOptions options = Options();
    options.directories = {elsewhere.path()};
    StoreUser copy(store_.blocks());
    copy.Reset(OrDie(BlockStore::Open(options, copy.blocks(), &engine_)));
    return copy.Holds(0, a) && copy.Holds(1, b);
  }
};

TEST_F(PendingCommitTest, HoldsWhatWasLiveWhenItBeganAndWhatIsWrittenIntoIt) {
  auto pending = Begin();
  EXPECT_TRUE(store_.Write(0, 3).ok());
  EXPECT_TRUE(store_.WriteInto(*pending, 1, 1002).ok());
  EXPECT_TRUE(store_.Holds(0, 3));  // the step goes on
  EXPECT_TRUE(ACrashNowLeaves(1, 1001));
  EXPECT_EQ(OrDie(pending->Finish()), 2u);
  EXPECT_TRUE(store_.Holds(0, 3));
  EXPECT_TRUE(ACrashNowLeaves(2, 1002));
  OrDie(store_->Commit("the step after", false));
  EXPECT_TRUE(ACrashNowLeaves(3, 1002));
}

TEST_F(PendingCommitTest, WhatIsWrittenIntoItIsLiveUnlessTheBlockWasWrittenSince) {
  auto pending = Begin();
  EXPECT_TRUE(store_.WriteInto(*pending, 1, 1002).ok());
  EXPECT_TRUE(store_.Holds(1, 1002));
  EXPECT_TRUE(store_.Write(0, 3).ok());
  EXPECT_TRUE(store_.WriteInto(*pending, 0, 1003).ok());
  EXPECT_TRUE(store_.Holds(0, 3));
  OrDie(pending->Finish());
  EXPECT_TRUE(ACrashNowLeaves(1003, 1002));
}

TEST_F(PendingCommitTest, DestroyedBeforeItsEndLeavesNoGenerationAndNoExtent) {
  uint64_t live_bytes = store_->counters().live_bytes;
  auto pending = Begin();
  EXPECT_TRUE(store_.Write(0, 3).ok());
  EXPECT_GT(store_->counters().live_bytes, live_bytes);
  pending.reset();
  EXPECT_EQ(store_->counters().live_bytes, live_bytes);
  EXPECT_EQ(store_->generations().size(), 1u);
  EXPECT_TRUE(ACrashNowLeaves(1, 1001));
  EXPECT_EQ(OrDie(store_->Commit("all the same", false)), 2u);
  EXPECT_TRUE(ACrashNowLeaves(3, 1001));
}

TEST_F(PendingCommitTest, ARollbackMeanwhileGoesBackToWhereItBegan) {
  auto pending = Begin();
  EXPECT_TRUE(store_.Write(0, 3).ok());
  store_->Rollback();
  EXPECT_TRUE(store_.Holds(0, 2));
  EXPECT_TRUE(store_.Write(0, 4).ok());
  OrDie(pending->Finish());
  EXPECT_TRUE(store_.Holds(0, 4));
  store_->Rollback();
  EXPECT_TRUE(store_.Holds(0, 2));
}

TEST_F(PendingCommitTest, AWriteThatFailsIsItsEndAndNamesTheBlock) {
  auto pending = Begin();
  engine_.SpoilWrite({}, 1);
  EXPECT_FALSE(store_.WriteInto(*pending, 1, 1002).ok());
  Status failed = pending->Finish().status();
  EXPECT_EQ(failed.code(), Code::kIoError);
  EXPECT_THAT(std::string(failed.message()),
              AllOf(HasSubstr("committing generation 2"), HasSubstr("block 'b'")));
  EXPECT_TRUE(ACrashNowLeaves(1, 1001));
  EXPECT_EQ(OrDie(store_->Commit("the next", false)), 2u);
}

TEST_F(PendingCommitTest, NeedsRoomForTheVersionsItHoldsAndSaysSoWhereThereIsNone) {
  store_ = StoreUser({Durable("a", 10000), Durable("b", 4096), Scratch("s", 5000)});
  BlockStoreOptions options = Options();
  options.run_id = "narrow";
  ASSERT_TRUE(Create(options).ok());
  CommitSeeds(1);
  EXPECT_TRUE(store_.Write(0, 2).ok());
  auto pending = Begin();
  Status status = store_.Write(0, 3);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("1 generations and a pending one hold them"));
  OrDie(pending->Finish());
  EXPECT_TRUE(store_.Write(0, 3).ok());
}

TEST_F(PendingCommitTest, ItsRoomIsPartOfTheCapacity) {
  std::vector<BlockDescription> blocks = {Rewritten("a", 10000), Durable("b", 4096)};
  EXPECT_EQ(StoreCapacityBytes(blocks, 2), 3 * 12_KiB + 2 * 4_KiB);
  EXPECT_EQ(store_->capacity_bytes(), StoreCapacityBytes(store_.blocks(), 2));
}

TEST_F(PendingCommitTest, PinnedStaysWhenTheNextCommitsCome) {
  auto pending = Begin(/*pin=*/true);
  EXPECT_TRUE(store_.WriteInto(*pending, 1, 1002).ok());
  uint64_t number = OrDie(pending->Finish());
  ASSERT_TRUE(Open(Options(3)).ok());
  CommitSeeds(5);
  CommitSeeds(6);
  ASSERT_TRUE(Open(Options(3), number).ok());
  EXPECT_TRUE(store_.Holds(0, 2));
  EXPECT_TRUE(store_.Holds(1, 1002));
}

TEST_F(PendingCommitTest, IsWrittenIntoWhileTheStepReadsAndWrites) {
  for (uint64_t round = 0; round < 20; ++round) {
    auto pending = Begin();
    std::jthread behind([&] {
      aio::HugeMemory bytes = OrDie(aio::HugeMemory::Map(4_KiB));
      std::ranges::copy(BytesOf(2000 + round, 4096), bytes.bytes().begin());
      EXPECT_TRUE(pending->StartWrite(StoreBlock{1}, bytes.bytes().first(4_KiB)).Finish().ok());
    });
    for (uint64_t i = 0; i < 5; ++i) {
      EXPECT_TRUE(store_.Write(0, 100 * round + i).ok());
      EXPECT_TRUE(store_.Holds(0, 100 * round + i));
    }
    behind.join();
    OrDie(pending->Finish());
    EXPECT_TRUE(store_.Holds(1, 2000 + round));
  }
  EXPECT_GT(store_->counters().pending_bytes_written, 0u);
}

}  // namespace
}  // namespace strata::tiering
