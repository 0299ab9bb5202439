#include "engine/config/lr_schedule.h"

#include <gtest/gtest.h>

#include <array>
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

TEST(LrSchedule, AWarmupOfOneStepTakesTwo) {
  SchedulerConfig config = {
      .type = SchedulerType::kWarmupLr, .warmup_num_steps = 1, .warmup_max_lr = 1};
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

// What DeepSpeed 0.19.8's own classes say, base rate 3e-4 and 10 steps of warm-up in 100. They
// multiply by 1 / ln(10) where we divide, and cosines differ: hence a relative tolerance.
void ExpectDeepSpeeds(SchedulerConfig config, const std::array<double, 10>& expected) {
  constexpr std::array<uint64_t, 10> kSteps = {0, 1, 2, 9, 10, 11, 55, 99, 100, 150};
  config.warmup_num_steps = 10;
  if (config.type != SchedulerType::kWarmupLr) config.total_num_steps = 100;
  for (size_t i = 0; i < kSteps.size(); ++i)
    EXPECT_NEAR(LearningRate(config, 3e-4, kSteps[i]), expected[i], 1e-13 * expected[i] + 1e-19)
        << "step " << kSteps[i];
}

TEST(LrSchedule, WarmupLrIsDeepSpeeds) {
  ExpectDeepSpeeds({.type = SchedulerType::kWarmupLr, .warmup_min_lr = 1e-6, .warmup_max_lr = 3e-4},
                   {1e-06, 9.100796870353035e-05, 0.00014365925516117903, 0.0002999999999999999,
                    0.0003, 0.0003, 0.0003, 0.0003, 0.0003, 0.0003});
}

TEST(LrSchedule, WarmupDecayLrIsDeepSpeeds) {
  ExpectDeepSpeeds({.type = SchedulerType::kWarmupDecayLr,
                    .warmup_type = WarmupType::kLinear,
                    .warmup_min_lr = 1e-6},
                   {1e-06, 0.00010090000000000001, 0.00020080000000000003, 0.0009001000000000001,
                    0.001, 0.0009889, 0.0005005000000000001, 1.2100000000000003e-05, 1e-06, 1e-06});
  ExpectDeepSpeeds({.type = SchedulerType::kWarmupDecayLr, .warmup_max_lr = 0.01},
                   {0.0, 0.0030102999566398113, 0.004771212547196624, 0.009999999999999998, 0.01,
                    0.00988888888888889, 0.005, 0.00011111111111111112, 0.0, 0.0});
}

TEST(LrSchedule, WarmupCosineLrIsDeepSpeeds) {
  ExpectDeepSpeeds(
      {.type = SchedulerType::kWarmupCosineLr, .warmup_min_ratio = 0.1, .cos_min_ratio = 0.01},
      {2.9999999999999997e-05, 0.00011127809882927491, 0.00015882273877430882,
       0.0002999999999999999, 0.0002999095378123357, 0.0002996382614635839, 0.00014631742473967862,
       2.9999999999999997e-06, 2.9999999999999997e-06, 2.9999999999999997e-06});
  ExpectDeepSpeeds(
      {.type = SchedulerType::kWarmupCosineLr, .warmup_type = WarmupType::kLinear},
      {0.0, 2.9999999999999997e-05, 5.9999999999999995e-05, 0.00027, 0.0002999086331904591,
       0.0002996346440782197, 0.00014478059898707541, 3e-08, 3e-08, 3e-08});
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
