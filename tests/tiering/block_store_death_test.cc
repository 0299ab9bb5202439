// A process that dies in every moment of its life, one run for each: between any two calls that
// make something durable, and between any two writes. What is found is a whole generation, never
// older than the last that was reported, and the job goes on from there to the same end.
//
// A program of its own, as its system calls are (mortality.h).
#include <unistd.h>

#include "tests/fakes/child.h"
#include "tests/fakes/mortality.h"
#include "tests/tiering/store_fixture.h"
#include "tiering/block_store.h"

namespace strata::tiering {
namespace {

using fakes::Child;

constexpr uint64_t kSteps = 4;
constexpr uint32_t kNumBlocks = 4;
constexpr uint32_t kFirstInMemory = 2;  // blocks from here on are written into commits only

enum class Commits { kAtOnce, kBehindTheNextStep };

class StoreDeathTest : public testing::TestWithParam<Commits> {
 protected:
  static std::vector<BlockDescription> Blocks() {
    return {Rewritten("a", 5000), Rewritten("b", 9000), Durable("c", 4096), Durable("d", 13000)};
  }
  static uint64_t SeedOf(uint64_t step, uint32_t block) { return step * 100 + block; }
  BlockStoreOptions Options() const {
    return {.directories = {dir_->path()}, .run_id = "death", .num_generations = 3};
  }

  // One that was begun is finished beside the next step's writes; every other one is kept, until
  // the next that is.
  class Job {
   public:
    Job(const StoreDeathTest& test, std::unique_ptr<aio::IoEngine> engine)
        : engine_(std::move(engine)), user_(Blocks()) {
      auto store = BlockStore::Open(test.Options(), Blocks(), engine_.get());
      if (!store.ok()) store = BlockStore::Create(test.Options(), Blocks(), engine_.get());
      user_.Reset(OrDie(std::move(store)));
    }

    void Run(const Child::Report& report) {
      uint64_t step =
          user_->generations().empty() ? 0 : std::stoull(user_->generations().back().metadata);
      ReleaseOld();  // whatever a death left half done
      while (step < kSteps) {
        ++step;
        WriteStep(step);
        FinishPending(report);
        Begin(step);
        if (GetParam() == Commits::kAtOnce) {
          WriteMemory();
          FinishPending(report);
        }
      }
      WriteMemory();
      FinishPending(report);
    }

   private:
    // What is at home in the store, with what is in memory written behind it.
    void WriteStep(uint64_t step) {
      STRATA_CHECK(user_.Write(0, SeedOf(step, 0)).ok());
      WriteMemory();
      STRATA_CHECK(user_.Write(1, SeedOf(step, 1)).ok());
    }
    void WriteMemory() {
      if (!pending_) return;
      for (uint32_t block = kFirstInMemory; block < kNumBlocks; ++block)
        STRATA_CHECK(user_.WriteInto(*pending_, block, SeedOf(pending_step_, block)).ok());
    }
    void Begin(uint64_t step) {
      pending_step_ = step;
      pending_ = OrDie(user_->BeginCommit(std::to_string(step), /*pin=*/step % 2 == 0));
    }
    void FinishPending(const Child::Report& report) {
      if (!pending_) return;
      OrDie(pending_->Finish());
      pending_.reset();
      report(pending_step_);
      ReleaseOld();
    }
    void ReleaseOld() {
      std::vector<uint64_t> pinned;
      for (const Generation& generation : user_->generations())
        if (generation.pinned) pinned.push_back(generation.number);
      for (size_t i = 0; i + 1 < pinned.size(); ++i) STRATA_CHECK(user_->Release(pinned[i]).ok());
    }

    std::unique_ptr<aio::IoEngine> engine_;
    StoreUser user_;
    std::unique_ptr<PendingCommit> pending_;
    uint64_t pending_step_ = 0;
  };

  // The step that a fresh process finds, 0 for none, after checking all that is there.
  uint64_t CheckStore() const {
    auto engine = NewEngine();
    StoreUser user(Blocks());
    uint64_t newest = 0;
    auto generations = BlockStore::List({dir_->path()}, "death", 0);
    if (!generations.ok()) return 0;
    for (const Generation& generation : *generations) {
      user.Reset();
      user.Reset(
          OrDie(BlockStore::Open(Options(), user.blocks(), engine.get(), generation.number)));
      newest = std::stoull(generation.metadata);
      for (uint32_t block = 0; block < kNumBlocks; ++block)
        EXPECT_TRUE(user.Holds(block, SeedOf(newest, block))) << "step " << newest;
    }
    return newest;
  }

  // Lives for so many moments; false when that was to the end.
  bool Dies(uint64_t num_moments, uint64_t* last_reported) const {
    Child child([&](const Child::Report& report) {
      fakes::LiveFor(num_moments);
      Job(*this, fakes::MakeMortal(NewEngine())).Run(report);
    });
    while (auto step = child.Next()) *last_reported = *step;
    return !child.EndedWell();
  }

  std::unique_ptr<TempDir> dir_;
};

TEST_P(StoreDeathTest, InAnyMomentLeavesAWholeGenerationAndAJobThatGoesOn) {
  uint64_t num_moments = 0;
  for (bool died = true; died && !HasFailure(); ++num_moments) {
    SCOPED_TRACE(num_moments);
    dir_ = std::make_unique<TempDir>();
    uint64_t reported = 0;
    died = Dies(num_moments, &reported);
    uint64_t found = CheckStore();
    EXPECT_GE(found, reported);
    EXPECT_LE(found, reported + 1);
    uint64_t last = reported;
    EXPECT_FALSE(Dies(UINT32_MAX, &last));
    EXPECT_EQ(CheckStore(), kSteps);
  }
  EXPECT_GT(num_moments, 20 * kSteps);  // or it proves little
  RecordProperty("moments", static_cast<int>(num_moments));
}

TEST_P(StoreDeathTest, AgainAndAgainInTheSameStoreStillComesToItsEnd) {
  dir_ = std::make_unique<TempDir>();
  uint64_t reported = 0;
  // Each life is longer than the one before, so that it gets further at last.
  for (uint64_t num_moments = 3; Dies(num_moments, &reported); ++num_moments) {
    ASSERT_LT(num_moments, 1000u);
    uint64_t found = CheckStore();
    EXPECT_GE(found, reported);
    EXPECT_LE(found, reported + 1);
  }
  EXPECT_EQ(CheckStore(), kSteps);
}

INSTANTIATE_TEST_SUITE_P(Ways, StoreDeathTest,
                         testing::Values(Commits::kAtOnce, Commits::kBehindTheNextStep),
                         [](const auto& test) {
                           return test.param == Commits::kAtOnce ? "AtOnce" : "Behind";
                         });

}  // namespace
}  // namespace strata::tiering
