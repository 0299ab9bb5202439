// A run that was stopped and resumed is the run that was never stopped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr auto kResume = SessionOptions::Start::kResume;

class ResumeTest : public testing::TestWithParam<std::string> {
 protected:
  RunConfig Config(const std::string& directory, std::vector<std::string> more = {}) {
    std::vector<std::string> sets = OffloadTo(GetParam(), directory);
    sets.insert(sets.end(), more.begin(), more.end());
    return OrDie(TinyConfig(directory, sets));
  }
  ScratchDirectory scratch_;
};

TEST_P(ResumeTest, ContinuesWithTheSameBits) {
  ScratchDirectory undisturbed;
  RunOutcome expected = OrDie(Train(Config(undisturbed.path())));
  RunOutcome first = OrDie(TrainAndStopAfter(Config(scratch_.path()), 1));
  EXPECT_TRUE(first.summary.stopped);
  RunOutcome rest = OrDie(Train(Config(scratch_.path()), kResume));
  EXPECT_GE(rest.first_step, 1u);
  EXPECT_EQ(rest.losses.back(), expected.losses.back());
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
}

TEST_P(ResumeTest, WithNothingThereStartsFromTheBeginning) {
  RunOutcome outcome = OrDie(Train(Config(scratch_.path()), kResume));
  EXPECT_EQ(outcome.first_step, 0u);
  EXPECT_EQ(outcome.losses.size(), 4u);
}

TEST_P(ResumeTest, WithAnotherModelIsRefused) {
  OrDie(TrainAndStopAfter(Config(scratch_.path()), 1));
  Result<RunOutcome> other = Train(Config(scratch_.path(), {"model.rope_theta=20000.0"}), kResume);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(other.status().message(), HasSubstr("another model"));
}

TEST_P(ResumeTest, WithAnotherDatasetIsRefused) {
  OrDie(TrainAndStopAfter(Config(scratch_.path()), 1));
  WriteText(scratch_.path() + "/text.txt", 4000, /*seed=*/2);
  Result<RunOutcome> other = Train(Config(scratch_.path()), kResume);
  ASSERT_FALSE(other.ok());
  EXPECT_THAT(other.status().message(), HasSubstr("dataset"));
}

TEST_P(ResumeTest, AFinishedRunHasNothingToDoAndTheSameState) {
  RunOutcome done = OrDie(Train(Config(scratch_.path())));
  RunOutcome again = OrDie(Train(Config(scratch_.path()), kResume));
  EXPECT_TRUE(again.losses.empty());
  EXPECT_EQ(again.summary.state_hash, done.summary.state_hash);
}

TEST_P(ResumeTest, ANewRunInTheSamePlaceIsRefused) {
  OrDie(Train(Config(scratch_.path())));
  Result<RunOutcome> again = Train(Config(scratch_.path()));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.status().code(), Code::kAlreadyExists);
  EXPECT_THAT(again.status().message(), HasSubstr("--overwrite"));
  EXPECT_TRUE(Train(Config(scratch_.path()), SessionOptions::Start::kOverwrite).ok());
}

TEST_P(ResumeTest, ContinuesUnderOtherBudgets) {
  ScratchDirectory undisturbed;
  RunOutcome expected = OrDie(Train(Config(undisturbed.path())));
  OrDie(TrainAndStopAfter(Config(scratch_.path()), 2));
  // Other budgets, another depth: another plan with other spills over the same blocks.
  RunOutcome rest = OrDie(
      Train(Config(scratch_.path(), {"zero_optimization.prefetch_ops=0", "memory.host=\"24MiB\""}),
            kResume));
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
}

// Which parts of a sublayer an op takes at once is the plan's business, not the state's.
TEST_P(ResumeTest, ContinuesWithOtherTiles) {
  auto config = [&](const std::string& directory, const char* tile) {
    return Config(directory, {"model.part_size=16KiB", std::string("train.tile=") + tile});
  };
  ScratchDirectory undisturbed;
  RunOutcome expected = OrDie(Train(config(undisturbed.path(), "1")));
  OrDie(TrainAndStopAfter(config(scratch_.path(), "1"), 2));
  RunOutcome rest = OrDie(Train(config(scratch_.path(), "9"), kResume));
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
}

TEST_P(ResumeTest, InOtherPartsIsRefused) {
  OrDie(TrainAndStopAfter(Config(scratch_.path(), {"model.part_size=16KiB"}), 1));
  Result<RunOutcome> other = Train(Config(scratch_.path()), kResume);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(other.status().message(), HasSubstr("[model] part_size"));
}

// The space of the store must be enough for a stop off a checkpoint's step and all that follows.
TEST_P(ResumeTest, AfterAStopBetweenCheckpointsTrainsToTheEnd) {
  for (const char* keep_last : {"0", "1", "2"}) {
    ScratchDirectory scratch;
    std::vector<std::string> sets = {"train.steps=12", "checkpoint.every_steps=2",
                                     std::string("checkpoint.keep_last=") + keep_last};
    for (uint64_t steps : {3u, 2u, 4u}) {
      Result<RunOutcome> part = TrainAndStopAfter(Config(scratch.path(), sets), steps, kResume);
      ASSERT_TRUE(part.ok()) << part.status().ToString();
    }
    Result<RunOutcome> rest = Train(Config(scratch.path(), sets), kResume);
    ASSERT_TRUE(rest.ok()) << rest.status().ToString();
    EXPECT_EQ(rest->summary.steps_done, 12u);
  }
}

std::set<std::string> Checkpoints(const std::string& directory) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory + "/run/checkpoints", ignored)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

// A kill between a pinned commit and the release of the one before leaves a pin too many; here
// something stands in the way of the checkpoint's directory instead, which fails at the same place.
TEST_P(ResumeTest, AfterACheckpointThatWasCutShortTrainsToTheEnd) {
  std::vector<std::string> sets = {"train.steps=12", "checkpoint.every_steps=4",
                                   "checkpoint.keep_last=1"};
  std::string blocked = scratch_.path() + "/run/checkpoints/step-000008";
  auto block_at_step_7 = [&](uint64_t step) {
    if (step == 7) std::ofstream(blocked) << "in the way";
  };
  EXPECT_FALSE(TrainAndStopAfter(Config(scratch_.path(), sets), 12, SessionOptions::Start::kNew,
                                 block_at_step_7)
                   .ok());
  fs::remove(blocked);
  RunOutcome rest = OrDie(TrainAndStopAfter(Config(scratch_.path(), sets), 0, kResume));
  EXPECT_EQ(Checkpoints(scratch_.path()), std::set<std::string>{"step-000008"});
  rest = OrDie(Train(Config(scratch_.path(), sets), kResume));
  EXPECT_EQ(rest.summary.steps_done, 12u);
  EXPECT_EQ(Checkpoints(scratch_.path()), std::set<std::string>{"step-000012"});
}

TEST_P(ResumeTest, StoppedBeforeItsFirstStepKeepsItsCheckpoints) {
  std::vector<std::string> sets = {"checkpoint.every_steps=2", "checkpoint.keep_last=1"};
  OrDie(TrainAndStopAfter(Config(scratch_.path(), sets), 2));
  OrDie(TrainAndStopAfter(Config(scratch_.path(), sets), 0, kResume));
  EXPECT_EQ(Checkpoints(scratch_.path()), std::set<std::string>{"step-000002"});
}

// A store that is not where it was is a drive that is not mounted, not a run that never was.
TEST_P(ResumeTest, WithoutItsStoreIsRefusedAndNothingIsTouched) {
  OrDie(TrainAndStopAfter(Config(scratch_.path()), 2));
  std::string store =
      GetParam() == "nvme" ? scratch_.path() + "/nvme" : scratch_.path() + "/run/store";
  fs::rename(store, scratch_.path() + "/unmounted");
  fs::create_directories(store);
  Result<RunOutcome> lost = Train(Config(scratch_.path()), kResume);
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(lost.status().message(), HasSubstr("mounted"));
  fs::remove_all(store);
  fs::rename(scratch_.path() + "/unmounted", store);
  RunOutcome rest = OrDie(Train(Config(scratch_.path()), kResume));
  EXPECT_EQ(rest.first_step, 2u);
}

TEST_P(ResumeTest, WithAnotherShapeSaysSo) {
  OrDie(TrainAndStopAfter(Config(scratch_.path()), 1));
  Result<RunOutcome> other = Train(Config(scratch_.path(), {"model.hidden_size=128"}), kResume);
  ASSERT_FALSE(other.ok());
  EXPECT_THAT(other.status().message(), HasSubstr("another model"));
}

// Another tier over the same store: blocks do not know where they live.
TEST(ResumeOnAnotherTier, ContinuesWithTheSameBits) {
  ScratchDirectory undisturbed;
  RunOutcome expected =
      OrDie(Train(OrDie(TinyConfig(undisturbed.path(), OffloadTo("nvme", undisturbed.path())))));
  ScratchDirectory scratch;
  std::vector<std::string> on_nvme = OffloadTo("nvme", scratch.path());
  OrDie(TrainAndStopAfter(OrDie(TinyConfig(scratch.path(), on_nvme)), 1));
  for (const char* device : {"cpu", "none", "nvme"}) {
    std::vector<std::string> sets = on_nvme;
    sets.push_back(std::string("zero_optimization.offload_param.device=") + device);
    sets.push_back(std::string("zero_optimization.offload_optimizer.device=") + device);
    RunOutcome next = OrDie(TrainAndStopAfter(OrDie(TinyConfig(scratch.path(), sets)), 1, kResume));
    EXPECT_EQ(next.losses.size(), 1u) << device;
    if (next.summary.steps_done == 4) {
      EXPECT_EQ(next.summary.state_hash, expected.summary.state_hash);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiers, ResumeTest, testing::Values("device", "host", "nvme"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace strata::engine
