// A run that was stopped and resumed is the run that was never stopped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;

template <typename T>
T OrDie(Result<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.status().ToString();
  return std::move(result).value();
}

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

INSTANTIATE_TEST_SUITE_P(Tiers, ResumeTest, testing::Values("device", "host", "nvme"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace strata::engine
