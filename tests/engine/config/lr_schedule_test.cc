#include "engine/config/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace strata::engine {
namespace {

// Expected numbers are worked out from the formulae by hand; the tolerance is a few roundings.
constexpr double kUlps = 1e-15;

TEST(LrSchedule, ConstantIsTheOptimizersRate) {
  EXPECT_EQ(LearningRate({}, 0.25, 0), 0.25);
  EXPECT_EQ(LearningRate({}, 0.25, 1'000'000), 0.25);
}

TEST(LrSchedule, WarmupLrRisesWithTheLogarithmOfTheStep) {
  SchedulerConfig config = {.type = SchedulerType::kWarmupLr,
                            .warmup_num_steps = 16,
                            .warmup_min_lr = 0.1,
                            .warmup_max_lr = 0.5};
  EXPECT_NEAR(LearningRate(config, 9, 0), 0.1, kUlps);   // ln 1 = 0
  EXPECT_NEAR(LearningRate(config, 9, 1), 0.2, kUlps);   // ln 2 / ln 16 = 1/4
  EXPECT_NEAR(LearningRate(config, 9, 3), 0.3, kUlps);   // ln 4 / ln 16 = 1/2
  EXPECT_NEAR(LearningRate(config, 9, 7), 0.4, kUlps);   // ln 8 / ln 16 = 3/4
  EXPECT_NEAR(LearningRate(config, 9, 15), 0.5, kUlps);  // the last step of the warm-up
  EXPECT_EQ(LearningRate(config, 9, 16), 0.5);
  EXPECT_EQ(LearningRate(config, 9, 1000), 0.5);
}

TEST(LrSchedule, LinearWarmupRisesEvenly) {
  SchedulerConfig config = {.type = SchedulerType::kWarmupLr,
                            .warmup_num_steps = 4,
                            .warmup_type = WarmupType::kLinear,
                            .warmup_max_lr = 0.8};
  EXPECT_EQ(LearningRate(config, 9, 0), 0.0);
  EXPECT_NEAR(LearningRate(config, 9, 1), 0.2, kUlps);
  EXPECT_NEAR(LearningRate(config, 9, 3), 0.6, kUlps);
  EXPECT_EQ(LearningRate(config, 9, 4), 0.8);
}

TEST(LrSchedule, AWarmupOfNoStepsTakesTwo) {
  SchedulerConfig config = {
      .type = SchedulerType::kWarmupLr, .warmup_num_steps = 0, .warmup_max_lr = 1};
  EXPECT_EQ(LearningRate(config, 9, 0), 0.0);
  EXPECT_EQ(LearningRate(config, 9, 1), 1.0);  // ln 2 / ln 2
}

TEST(LrSchedule, WarmupDecayLrFallsEvenlyToNothing) {
  SchedulerConfig config = {.type = SchedulerType::kWarmupDecayLr,
                            .warmup_num_steps = 4,
                            .warmup_min_lr = 0.1,
                            .warmup_max_lr = 0.9,
                            .total_num_steps = 12};
  EXPECT_NEAR(LearningRate(config, 9, 1), 0.5, kUlps);   // ln 2 / ln 4 = 1/2
  EXPECT_NEAR(LearningRate(config, 9, 4), 0.9, kUlps);   // (12 - 4) / 8
  EXPECT_NEAR(LearningRate(config, 9, 8), 0.5, kUlps);   // (12 - 8) / 8 = 1/2
  EXPECT_NEAR(LearningRate(config, 9, 12), 0.1, kUlps);  // the minimum
  EXPECT_NEAR(LearningRate(config, 9, 99), 0.1, kUlps);
}

TEST(LrSchedule, WarmupCosineLrFallsWithTheCosineOfTheOptimizersRate) {
  SchedulerConfig config = {.type = SchedulerType::kWarmupCosineLr,
                            .warmup_num_steps = 4,
                            .warmup_type = WarmupType::kLinear,
                            .total_num_steps = 12,
                            .warmup_min_ratio = 0.2,
                            .cos_min_ratio = 0.1};
  EXPECT_NEAR(LearningRate(config, 2, 0), 2 * 0.2, kUlps);
  EXPECT_NEAR(LearningRate(config, 2, 2), 2 * 0.6, kUlps);  // 0.2 + 0.8 / 2
  // The first step after the warm-up is one of eight steps into the decay.
  EXPECT_NEAR(LearningRate(config, 2, 4), 2 * (0.1 + 0.9 * (1 + std::cos(M_PI / 8)) / 2), kUlps);
  EXPECT_NEAR(LearningRate(config, 2, 7), 2 * 0.55, kUlps);  // halfway: 0.1 + 0.9 / 2
  EXPECT_NEAR(LearningRate(config, 2, 11), 2 * 0.1, kUlps);  // the last step is at the floor
  EXPECT_NEAR(LearningRate(config, 2, 50), 2 * 0.1, kUlps);
}

TEST(LrSchedule, ATotalShorterThanTheWarmupEndsAtTheFloor) {
  SchedulerConfig config = {
      .type = SchedulerType::kWarmupCosineLr, .warmup_num_steps = 10, .total_num_steps = 5};
  EXPECT_NEAR(LearningRate(config, 1, 10), 0.0001, kUlps);
  config.type = SchedulerType::kWarmupDecayLr;
  EXPECT_EQ(LearningRate(config, 1, 10), 0.0);
}

}  // namespace
}  // namespace strata::engine
