#include "aio/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "aio/base/check.h"

namespace strata::aio {

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kNumBuckets; ++i) counts_[i] += other.counts_[i];
}

LatencyHistogram LatencyHistogram::Since(const LatencyHistogram& earlier) const {
  LatencyHistogram difference;
  for (size_t i = 0; i < kNumBuckets; ++i) {
    STRATA_CHECK(counts_[i] >= earlier.counts_[i]);
    difference.counts_[i] = counts_[i] - earlier.counts_[i];
  }
  return difference;
}

uint64_t LatencyHistogram::count() const {
  return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0});
}

LatencyHistogram::Duration LatencyHistogram::Quantile(double quantile) const {
  STRATA_CHECK(quantile >= 0 && quantile <= 1);
  double wanted = std::max(1.0, std::ceil(quantile * static_cast<double>(count())));
  uint64_t seen = 0;
  for (size_t i = 0; i < kNumBuckets; ++i) {
    seen += counts_[i];
    if (static_cast<double>(seen) >= wanted) return UpperBound(i);
  }
  return Duration(0);
}

}  // namespace strata::aio
