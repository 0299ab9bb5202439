#include "aio/bench/internal/robust_stats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "aio/bench/internal/drift.h"

namespace strata::aio::bench_internal {
namespace {

TEST(RobustStatsTest, WildValuesMoveNeitherMedianNorScale) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Median({1, 2, 1e9}), 2);
  EXPECT_NEAR(RobustScale({-1, 1, -1, 1, 1e9}), 1.4826, 1e-9);
}

TEST(RobustStatsTest, QuantilesOfStudentsTAreThoseOfTheTables) {
  EXPECT_NEAR(StudentT975(1), 12.706, 0.001);
  EXPECT_NEAR(StudentT975(3), 3.182, 0.03);
  EXPECT_NEAR(StudentT975(5), 2.571, 0.01);
  EXPECT_NEAR(StudentT975(30), 2.042, 0.001);
  EXPECT_NEAR(StudentT975(10000), 1.960, 0.001);
}

TEST(DriftTest, ABurstInTheFirstHalfIsTakenOut) {
  constexpr size_t kCandidates = 12;
  std::mt19937_64 random(1);
  std::normal_distribution<double> noise(0, 0.02);
  std::vector<Observation> observations;
  for (size_t i = 0; i < 5 * kCandidates; ++i) {
    size_t candidate = (i * 5) % kCandidates;
    double burst = i < 18 ? std::log(2.0) : 0;  // ends in the middle of the second round
    observations.push_back(
        {candidate, 0.1 * static_cast<double>(candidate) + burst + noise(random)});
  }
  std::vector<double> drift = FitDrift(observations, kCandidates);
  for (size_t i = 0; i < 12; ++i) EXPECT_NEAR(drift[i], std::log(2.0), 0.08) << i;
  for (size_t i = 25; i < drift.size(); ++i) EXPECT_NEAR(drift[i], 0, 0.08) << i;
}

TEST(DriftTest, WithoutAnythingMeasuredTwiceNothingIsKnown) {
  EXPECT_EQ(FitDrift({{0, 1.0}, {1, 5.0}}, 2), (std::vector<double>{0, 0}));
  EXPECT_TRUE(FitDrift({}, 2).empty());
}

}  // namespace
}  // namespace strata::aio::bench_internal
