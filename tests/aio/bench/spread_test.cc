#include "aio/bench/spread.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace strata::aio {
namespace {

TEST(SpreadTest, OfNothingOneAndSeveral) {
  EXPECT_EQ(SpreadOf({}).mean, 0);
  EXPECT_EQ(SpreadOf(std::vector<double>{3}).variation, 0);
  Spread spread = SpreadOf(std::vector<double>{2, 4, 6});
  EXPECT_EQ(spread.min, 2);
  EXPECT_EQ(spread.mean, 4);
  EXPECT_EQ(spread.max, 6);
  EXPECT_DOUBLE_EQ(spread.variation, 0.5);
}

// Rates of a disk whose speed follows `speed` (of the time 0..1) with noise of so many per cent.
template <typename Speed>
std::vector<double> Series(size_t count, double noise, Speed speed, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> rates;
  for (size_t i = 0; i < count; ++i)
    rates.push_back(speed(static_cast<double>(i) / static_cast<double>(count)) *
                    std::exp(noise * normal(random)));
  return rates;
}

TEST(SlowdownTest, ADriveThatThrottlesIsSeen) {
  auto throttles = [](double t) { return t < 0.5 ? 7e9 : 2e9; };
  auto slowdown = FindSlowdown(Series(60, 0.05, throttles));
  ASSERT_TRUE(slowdown);
  EXPECT_NEAR(slowdown->first_third, 7e9, 0.3e9);
  EXPECT_NEAR(slowdown->last_third, 2e9, 0.1e9);
}

TEST(SlowdownTest, ASlowDeclineIsSeenOnceItIsLargeEnough) {
  EXPECT_TRUE(FindSlowdown(Series(60, 0.05, [](double t) { return 1 - 0.5 * t; })));
  EXPECT_FALSE(FindSlowdown(Series(60, 0.05, [](double t) { return 1 - 0.1 * t; })));
}

TEST(SlowdownTest, NoiseIsNotThrottling) {
  int seen = 0;
  for (uint64_t seed = 1; seed <= 1000; ++seed)
    seen += FindSlowdown(Series(
                             30, 0.3, [](double) { return 1; }, seed))
                .has_value();
  EXPECT_LE(seen, 5);
}

TEST(SlowdownTest, SingleStallsAndASlowStartAreNotThrottling) {
  std::vector<double> rates(30, 1.0);
  rates[27] = rates[22] = rates[25] = 0.01;
  EXPECT_FALSE(FindSlowdown(rates));
  EXPECT_FALSE(FindSlowdown(Series(30, 0.02, [](double t) { return t < 0.4 ? 1 : 5; })));
}

TEST(SlowdownTest, TooFewValuesSayNothing) {
  EXPECT_FALSE(FindSlowdown({}));
  EXPECT_FALSE(FindSlowdown(std::vector<double>{9, 9, 9, 9, 1, 1, 1, 1}));
  EXPECT_TRUE(FindSlowdown(std::vector<double>{9, 9, 9, 5, 5, 5, 1, 1, 1}));
}

}  // namespace
}  // namespace strata::aio
