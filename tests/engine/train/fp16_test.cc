// Runs in fp16: the loss scale finds its place, an overflow costs one update and nothing else, and
// when updates happen changes no bit.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/config/lr_schedule.h"
#include "engine/optimizer/loss_scaler.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

// 2^26 / (tokens of a step) is more than fp16 holds, so that the first steps overflow; the scale is
// doubled soon after it has found its place, so that some later ones do.
std::vector<std::string> Fp16Sets(const std::string& directory) {
  std::vector<std::string> sets = OffloadTo("nvme", directory);
  sets.insert(sets.end(), {"train.precision=fp16", "train.steps=24", "checkpoint.keep_last=0",
                           "fp16.initial_scale_power=26", "fp16.loss_scale_window=3",
                           "fp16.hysteresis=1", "train.clip_calm_steps=2"});
  return sets;
}

RunConfig ConfigWith(const std::string& directory, const std::vector<std::string>& more) {
  std::vector<std::string> sets = Fp16Sets(directory);
  sets.insert(sets.end(), more.begin(), more.end());
  return OrDie(TinyConfig(directory, sets));
}

RunOutcome Outcome(const std::vector<std::string>& more) {
  ScratchDirectory scratch;
  return OrDie(Train(ConfigWith(scratch.path(), more)));
}

size_t NumSkipped(const RunOutcome& outcome) {
  return static_cast<size_t>(std::count(outcome.skipped.begin(), outcome.skipped.end(), true));
}

void ExpectSameRun(const RunOutcome& actual, const RunOutcome& expected) {
  EXPECT_THAT(actual.losses, ElementsAreArray(expected.losses));
  EXPECT_THAT(actual.loss_scales, ElementsAreArray(expected.loss_scales));
  EXPECT_THAT(actual.learning_rates, ElementsAreArray(expected.learning_rates));
  EXPECT_EQ(actual.skipped, expected.skipped);
  EXPECT_EQ(actual.summary.weights_hash, expected.summary.weights_hash);
  EXPECT_EQ(actual.summary.state_hash, expected.summary.state_hash);
}

TEST(Fp16Test, WhenUpdatesHappenChangesNoBitOverflowsIncluded) {
  for (const char* clipping : {"0", "2.4"}) {
    std::vector<std::string> sets = {fmt::format("train.gradient_clipping={}", clipping)};
    auto with = [&](const char* mode) {
      std::vector<std::string> all = sets;
      all.push_back(fmt::format("train.clip_mode={}", mode));
      return Outcome(all);
    };
    RunOutcome expected = with("norm_first");
    EXPECT_GT(NumSkipped(expected), 3u);
    EXPECT_LT(NumSkipped(expected), 18u);
    EXPECT_TRUE(expected.skipped.front());
    for (const char* mode : {"deferred", "speculative", "auto"}) {
      SCOPED_TRACE(fmt::format("clipping={} {}", clipping, mode));
      RunOutcome outcome = with(mode);
      ExpectSameRun(outcome, expected);
      EXPECT_EQ(outcome.summary.counts.skipped, NumSkipped(expected));
    }
  }
}

TEST(Fp16Test, WhereAByteLivesChangesNoBit) {
  RunOutcome expected = Outcome({});
  ScratchDirectory scratch;
  for (const char* tier : {"device", "host"}) {
    std::vector<std::string> sets = {"train.precision=fp16",        "train.steps=24",
                                     "fp16.initial_scale_power=26", "fp16.loss_scale_window=3",
                                     "fp16.hysteresis=1",           "checkpoint.keep_last=0",
                                     "train.schedule=horizontal",   "train.threads=2"};
    for (std::string& set : OffloadTo(tier, scratch.path())) sets.push_back(std::move(set));
    SCOPED_TRACE(tier);
    ExpectSameRun(
        OrDie(Train(OrDie(TinyConfig(scratch.path(), sets)), SessionOptions::Start::kOverwrite)),
        expected);
  }
}

// DeepSpeed's machine, fed with the overflows that there were; a skipped step advances no schedule.
TEST(Fp16Test, TheScaleFollowsItsRuleAndSkippedStepsAdvanceNoSchedule) {
  ScratchDirectory scratch;
  RunConfig config =
      ConfigWith(scratch.path(), {"scheduler.type=WarmupCosineLR", "scheduler.warmup_num_steps=4"});
  RunOutcome outcome = OrDie(Train(config));
  LossScaler scaler(config.fp16);
  uint64_t updates = 0;
  for (size_t i = 0; i < outcome.losses.size(); ++i) {
    EXPECT_EQ(outcome.loss_scales[i], scaler.scale()) << i;
    EXPECT_EQ(outcome.learning_rates[i],
              LearningRate(config.scheduler, config.optimizer.lr, updates))
        << i;
    EXPECT_EQ(std::isfinite(outcome.gradient_norms[i]), !outcome.skipped[i]) << i;
    EXPECT_TRUE(std::isfinite(outcome.losses[i]));
    ASSERT_TRUE(scaler.Update(outcome.skipped[i]).ok());
    if (!outcome.skipped[i]) ++updates;
  }
  EXPECT_GT(updates, 5u);
}

// The same updates in fp32: fp16 rounds activations and gradients to 11 bits, and 24 steps of a
// tiny model let the losses drift apart by a percent at most.
TEST(Fp16Test, LearnsWhatFp32Learns) {
  std::vector<std::string> calm = {"fp16.initial_scale_power=10", "fp16.loss_scale_window=1000"};
  RunOutcome fp16 = Outcome(calm);
  ASSERT_EQ(NumSkipped(fp16), 0u);
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo("nvme", scratch.path());
  sets.insert(sets.end(), {"train.precision=fp32", "train.steps=24", "checkpoint.keep_last=0"});
  RunOutcome fp32 = OrDie(Train(OrDie(TinyConfig(scratch.path(), sets))));
  EXPECT_LT(fp16.losses.back(), 0.9 * fp16.losses.front());
  for (size_t i = 0; i < fp32.losses.size(); ++i)
    EXPECT_NEAR(fp16.losses[i], fp32.losses[i], 0.01 * fp32.losses[i]) << i;
}

// Stopped anywhere: in the overflows at the start, between two, in a run that defers its updates.
TEST(Fp16Test, AResumedRunGoesOnWithItsScaleAndItsUpdates) {
  for (const char* mode : {"norm_first", "deferred", "speculative"}) {
    std::vector<std::string> sets = {fmt::format("train.clip_mode={}", mode)};
    RunOutcome expected = Outcome(sets);
    for (uint64_t stop : {2u, 9u, 17u}) {
      SCOPED_TRACE(fmt::format("{} stopped after {}", mode, stop));
      ScratchDirectory scratch;
      RunConfig config = ConfigWith(scratch.path(), sets);
      RunOutcome first = OrDie(TrainAndStopAfter(config, stop));
      RunOutcome rest = OrDie(Train(config, SessionOptions::Start::kResume));
      first.losses.insert(first.losses.end(), rest.losses.begin(), rest.losses.end());
      EXPECT_THAT(first.losses, ElementsAreArray(expected.losses));
      EXPECT_EQ(rest.loss_scales.back(), expected.loss_scales.back());
      EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
    }
  }
}

TEST(Fp16Test, AFixedScaleThatOverflowsSkipsEveryStepAndChangesNothing) {
  RunOutcome outcome = Outcome({"fp16.loss_scale=67108864", "train.steps=3"});
  EXPECT_EQ(NumSkipped(outcome), 3u);
  EXPECT_EQ(outcome.losses.size(), 3u);
}

TEST(Fp16Test, AnOverflowAtTheLeastScaleEndsTheRunWithItsStateAsItWas) {
  ScratchDirectory scratch;
  RunConfig config = ConfigWith(scratch.path(), {"fp16.min_loss_scale=67108864"});
  Result<RunOutcome> outcome = Train(config);
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("least loss scale"));
}

}  // namespace
}  // namespace strata::engine
