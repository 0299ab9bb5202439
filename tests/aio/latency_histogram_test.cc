#include "aio/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace strata::aio {
namespace {

using std::chrono::nanoseconds;

TEST(LatencyHistogramTest, BucketsFollowEachOtherWithoutGaps) {
  for (size_t bucket = 0; bucket + 1 < LatencyHistogram::kNumBuckets; ++bucket) {
    nanoseconds last = LatencyHistogram::UpperBound(bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(last), bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(last + nanoseconds(1)), bucket + 1);
  }
  EXPECT_EQ(LatencyHistogram::BucketOf(nanoseconds::max()), LatencyHistogram::kNumBuckets - 1);
  EXPECT_EQ(LatencyHistogram::BucketOf(nanoseconds(-1)), 0u);
}

// Against sorting: never below, at most one bucket's width (1/32) above.
TEST(LatencyHistogramTest, QuantilesAgreeWithSorting) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> latency_ns(11, 2);
  LatencyHistogram histogram;
  std::vector<double> sorted;
  for (int i = 0; i < 10'000; ++i) {
    sorted.push_back(std::floor(latency_ns(random)));
    histogram.Add(nanoseconds(static_cast<int64_t>(sorted.back())));
  }
  std::ranges::sort(sorted);
  for (double quantile : {0.0, 0.001, 0.5, 0.99, 0.999, 1.0}) {
    size_t rank = std::max<size_t>(static_cast<size_t>(std::ceil(quantile * 10'000)), 1);
    double exact = sorted[rank - 1];
    double read_off = static_cast<double>(histogram.Quantile(quantile).count());
    EXPECT_GE(read_off, exact) << quantile;
    EXPECT_LE(read_off, exact * (1 + 1.0 / 32) + 1) << quantile;
  }
  EXPECT_EQ(histogram.count(), 10'000u);
}

TEST(LatencyHistogramTest, SinceIsWhatCameAfter) {
  LatencyHistogram before;
  before.Add(nanoseconds(10));
  LatencyHistogram after = before;
  after.Add(nanoseconds(20));
  EXPECT_EQ(after.Since(before).count(), 1u);
  EXPECT_EQ(after.Since(before).Max(), nanoseconds(20));
  EXPECT_EQ(before.Since(before).Max(), nanoseconds(0));
}

TEST(LatencyHistogramTest, MergedHistogramsCountAll) {
  LatencyHistogram one, other;
  one.Add(nanoseconds(10));
  other.Add(nanoseconds(10));
  other.Add(nanoseconds(20));
  one.Merge(other);
  EXPECT_EQ(one.count(), 3u);
  EXPECT_EQ(one.Quantile(0.5), nanoseconds(10));
  EXPECT_EQ(one.Max(), nanoseconds(20));
}

}  // namespace
}  // namespace strata::aio
