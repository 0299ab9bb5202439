// Processes that are killed, and processes that meet.
#include <unistd.h>

#include <random>

#include "tests/fakes/child.h"
#include "tests/tiering/store_fixture.h"
#include "tiering/block_store.h"

namespace strata::tiering {
namespace {

using fakes::Child;
using testing::HasSubstr;

constexpr uint32_t kNumBlocks = 5;

class StoreCrashTest : public testing::Test {
 protected:
  static std::vector<BlockDescription> Blocks() {
    std::vector<BlockDescription> blocks;
    for (uint32_t i = 0; i < kNumBlocks; ++i)
      blocks.push_back(Durable("b" + std::to_string(i), 5000 + 9000 * i));
    return blocks;
  }
  static uint64_t SeedOf(uint64_t step, uint32_t block) { return step * 100 + block; }

  BlockStoreOptions Options() const {
    return {.directories = {dir_.path()}, .run_id = "crash", .num_generations = 4};
  }

  // A job: opens or creates the store, and writes all blocks and commits, step by step; every
  // fourth step is a kept checkpoint, of which two are kept.
  void RunJob(const Child::Report& report) const {
    auto engine = NewEngine();
    StoreUser user(Blocks());
    auto store = BlockStore::Open(Options(), user.blocks(), engine.get());
    if (!store.ok()) store = BlockStore::Create(Options(), user.blocks(), engine.get());
    user.Reset(OrDie(std::move(store)));
    const auto& generations = user->generations();
    uint64_t step = generations.empty() ? 0 : std::stoull(generations.back().metadata);
    for (;;) {
      ++step;
      for (uint32_t block = 0; block < kNumBlocks; ++block)
        if (!user.Write(block, SeedOf(step, block)).ok()) _exit(2);
      if (generations.size() > 2 && !user->Release(generations.front().number).ok()) _exit(3);
      if (!user->Commit(std::to_string(step), step % 4 == 0).ok()) _exit(4);
      report(step);
    }
  }

  // The step that a fresh process finds, after checking all that is there.
  uint64_t CheckStore() const {
    auto engine = NewEngine();
    StoreUser user(Blocks());
    uint64_t newest = 0;
    for (const Generation& generation : OrDie(BlockStore::List({dir_.path()}, "crash", 0))) {
      user.Reset();
      user.Reset(
          OrDie(BlockStore::Open(Options(), user.blocks(), engine.get(), generation.number)));
      newest = std::stoull(generation.metadata);
      for (uint32_t block = 0; block < kNumBlocks; ++block)
        EXPECT_TRUE(user.Holds(block, SeedOf(newest, block))) << "step " << newest;
    }
    return newest;
  }

  TempDir dir_;
};

TEST_F(StoreCrashTest, AProcessKilledAtAnyMomentLeavesItsLastCommitWhole) {
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    Child child([this](const Child::Report& report) { RunJob(report); });
    uint64_t last = 0;
    for (uint32_t reports = 1 + random() % 6; reports > 0; --reports)
      last = child.Next().value_or(last);
    ASSERT_GT(last, 0u);
    // The job goes on meanwhile, for a while that is different each time.
    volatile uint32_t spin = static_cast<uint32_t>(random() % 2'000'000);
    while (spin > 0) spin = spin - 1;
    child.Kill();
    while (auto step = child.Next()) last = *step;
    uint64_t found = CheckStore();
    // One more may be committed than was reported.
    EXPECT_GE(found, last);
    EXPECT_LE(found, last + 1);
  }
}

TEST_F(StoreCrashTest, AnotherProcessIsRefusedByNameAndADeadOneHoldsNothing) {
  Child child([this](const Child::Report& report) {
    auto engine = NewEngine();
    auto store = OrDie(BlockStore::Create(Options(), Blocks(), engine.get()));
    STRATA_CHECK(store->Commit("0", false).ok());
    report(1);
    for (;;) pause();
  });
  ASSERT_TRUE(child.Next().has_value());
  auto engine = NewEngine();
  Status refused = BlockStore::Open(Options(), Blocks(), engine.get()).status();
  EXPECT_EQ(refused.code(), Code::kFailedPrecondition);
  EXPECT_THAT(refused.message(), HasSubstr("held by process " + std::to_string(child.pid())));
  EXPECT_THAT(refused.message(), HasSubstr(dir_.path()));
  child.Kill();
  EXPECT_TRUE(BlockStore::Open(Options(), Blocks(), engine.get()).ok());
}

}  // namespace
}  // namespace strata::tiering
