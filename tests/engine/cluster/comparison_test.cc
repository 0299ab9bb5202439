#include "engine/cluster/comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/engine/cluster/small_cluster.h"

namespace strata::engine {
namespace {

TEST(Comparison, NamesEveryStageWithEveryOffloadItHas) {
  EXPECT_EQ(AllChoices(true).size(), 1u + 3 + 3 + 9);
  EXPECT_EQ(AllChoices(false).size(), 1u + 2 + 2 + 4);
  for (const ZeroChoice& choice : AllChoices(true)) {
    EXPECT_TRUE(choice.stage > 0 || choice.optimizer == OffloadDevice::kNone);
    EXPECT_TRUE(choice.stage == 3 || choice.weights == OffloadDevice::kNone);
  }
}

// A shortage is not a guess: with as much more it fits, with a little less than that it does not.
TEST(Comparison, WhatIsMissingIsWhatWouldDo) {
  Cluster cluster = SmallCluster(96_MiB, 256_MiB, 2);
  std::vector<PlanOutcome> outcomes =
      OrDie(Compare(SmallRun(cluster, {.stage = 3}), HardwareOf(cluster), LimitsOf(cluster)));
  ASSERT_EQ(outcomes.size(), AllChoices(true).size());
  size_t num_short = 0, num_fit = 0;
  for (const PlanOutcome& outcome : outcomes) {
    SCOPED_TRACE(Describe(outcome.choice));
    RunConfig config = SmallRun(cluster, outcome.choice);
    if (outcome.fits()) {
      ++num_fit;
      EXPECT_GE(outcome.step_s, outcome.bound_s * 0.999);
      EXPECT_LE(outcome.device_bytes, config.memory.device_bytes);
      EXPECT_LE(outcome.host_bytes, config.memory.host_bytes);
      continue;
    }
    ++num_short;
    config.memory.device_bytes += outcome.device_short_bytes;
    config.memory.host_bytes += outcome.host_short_bytes;
    EXPECT_TRUE(OrDie(Fits(config, kUnknownCapacity)));
    uint64_t& scarce =
        outcome.device_short_bytes > 0 ? config.memory.device_bytes : config.memory.host_bytes;
    scarce -= 3_MiB;  // least is looked for in steps of 1 MiB
    EXPECT_FALSE(OrDie(Fits(config, kUnknownCapacity)));
  }
  EXPECT_GT(num_short, 0u);
  EXPECT_GT(num_fit, 0u);
}

// In fp32 weights are their own masters, which stages 1 and 2 would have to tell apart.
TEST(Comparison, WhatAPrecisionDoesNotHaveIsNeitherARowNorAnAdvice) {
  Cluster cluster = SmallCluster(96_MiB, 256_MiB, 2);
  const RunConfig config =
      OrDie(MakeRunConfig(cluster, SmallModel(), {.model = "", .seq_len = 512, .micro_batch = 2},
                          {.stage = 0}, {"train.precision=fp32"}));
  const auto is_missing = [](const ZeroChoice& choice) {
    return choice.stage == 1 || choice.stage == 2;
  };
  const std::vector<PlanOutcome> rows =
      OrDie(Compare(config, HardwareOf(cluster), LimitsOf(cluster)));
  EXPECT_EQ(rows.size(), 1u + 9u);
  const std::vector<Advice> advice =
      OrDie(AdviseOn(config, HardwareOf(cluster), LimitsOf(cluster)));
  EXPECT_FALSE(advice.empty());
  for (const PlanOutcome& row : rows) EXPECT_FALSE(is_missing(row.choice));
  for (const Advice& one : advice) EXPECT_FALSE(is_missing(one.outcome.choice));
}

TEST(Comparison, DrivesThatAreTooSmallAreTold) {
  Cluster cluster = SmallCluster(1_GiB, 1_GiB, 2);
  RunConfig config = SmallRun(
      cluster, {.stage = 3, .optimizer = OffloadDevice::kNvme, .weights = OffloadDevice::kNvme});
  PlanOutcome outcome = OrDie(TryPlan(config, HardwareOf(cluster), 10_MiB));
  EXPECT_TRUE(outcome.fits_memory());
  EXPECT_FALSE(outcome.fits());
  EXPECT_EQ(outcome.nvme_short_bytes, outcome.nvme_bytes - 10_MiB);
  EXPECT_FALSE(OrDie(Fits(config, 10_MiB)));
}

// The least that would do has activations spill to a drive. Without one they have nowhere to go.
TEST(Comparison, WithoutDrivesNothingMaySpill) {
  Cluster cluster = SmallCluster(48_MiB, 160_MiB, 0, /*num_gpus=*/1);
  RunConfig config = SmallRun(cluster, {.stage = 3}, /*micro_batch=*/16);
  config.memory = {.device_bytes = 1_MiB, .host_bytes = 1_MiB};
  PlanOutcome least = OrDie(TryPlan(config, HardwareOf(cluster), kUnknownCapacity));
  config.memory = {.device_bytes = least.device_bytes, .host_bytes = least.host_bytes};
  PlanOutcome spilling = OrDie(TryPlan(config, HardwareOf(cluster), kUnknownCapacity));
  EXPECT_TRUE(spilling.fits());
  EXPECT_GT(spilling.nvme_bytes_written, 0u);
  PlanOutcome without = OrDie(TryPlan(config, HardwareOf(cluster), 0));
  EXPECT_FALSE(without.fits());
  EXPECT_EQ(without.nvme_short_bytes, spilling.nvme_bytes);
  EXPECT_FALSE(OrDie(Fits(config, 0)));
}

TEST(Advice, EveryAdviceFitsAndSaysWhatItChanges) {
  Cluster cluster = SmallCluster(128_MiB, 512_MiB, 2);
  RunConfig config = SmallRun(cluster, {.stage = 0}, /*micro_batch=*/4);
  ASSERT_FALSE(OrDie(Fits(config, kUnknownCapacity)));
  std::vector<Advice> advice = OrDie(AdviseOn(config, HardwareOf(cluster), LimitsOf(cluster)));
  ASSERT_FALSE(advice.empty());
  for (const Advice& one : advice) {
    SCOPED_TRACE(one.change);
    EXPECT_TRUE(OrDie(Fits(one.config, kUnknownCapacity)));
    EXPECT_TRUE(one.outcome.fits());
    EXPECT_FALSE(one.config == config);
    EXPECT_EQ(one.config.train.train_batch_size, config.train.train_batch_size);
  }
  EXPECT_TRUE(std::ranges::is_sorted(advice, [](const Advice& a, const Advice& b) {
    return a.outcome.tokens_per_s > b.outcome.tokens_per_s;
  }));
}

TEST(Advice, NamesRecomputingWhereTheRunForbidsIt) {
  Cluster cluster = SmallCluster(256_MiB, 1_GiB, 2);
  RunConfig config = SmallRun(
      cluster, {.stage = 3, .optimizer = OffloadDevice::kNvme, .weights = OffloadDevice::kNvme},
      /*micro_batch=*/8);
  // No more than what takes least, recomputed, needs.
  config.train.recompute = Recompute::kAll;
  config.memory = {.device_bytes = 1_MiB, .host_bytes = 1_MiB};
  const PlanOutcome least = OrDie(TryPlan(config, HardwareOf(cluster), kUnknownCapacity));
  ASSERT_FALSE(least.fits());
  config.memory = {.device_bytes = RoundUp(least.device_bytes, 1_MiB),
                   .host_bytes = RoundUp(least.host_bytes, 1_MiB)};
  config.train.recompute = Recompute::kNone;
  ASSERT_FALSE(OrDie(Fits(config, kUnknownCapacity)));
  std::vector<Advice> advice = OrDie(AdviseOn(config, HardwareOf(cluster), LimitsOf(cluster)));
  EXPECT_TRUE(std::ranges::any_of(
      advice, [](const Advice& one) { return one.change == "recompute activations"; }));
}

// Long sequences: no stage helps against activations that are too large for the GPU.
TEST(Advice, WhereNoOneChangeHelpsSeveralAreTriedTogether) {
  Cluster cluster = SmallCluster(64_MiB, 96_MiB, 2);
  RunConfig config = SmallRun(cluster, {.stage = 0}, /*micro_batch=*/16, /*seq_len=*/2048);
  std::vector<Advice> advice = OrDie(AdviseOn(config, HardwareOf(cluster), LimitsOf(cluster)));
  ASSERT_FALSE(advice.empty());
  for (const Advice& one : advice) {
    EXPECT_TRUE(OrDie(Fits(one.config, kUnknownCapacity))) << one.change;
    EXPECT_NE(one.change.find(", "), std::string::npos) << one.change;
  }
}

}  // namespace
}  // namespace strata::engine
