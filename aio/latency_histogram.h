// How long many operations took, in fixed memory.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace strata::aio {

// Buckets grow with the value, 32 to each doubling: what is read off is at most 1/32 too high.
// Values from 0 to about 18 minutes; longer ones count as that. A value; not synchronised.
class LatencyHistogram {
 public:
  using Duration = std::chrono::nanoseconds;

  static constexpr int kStepBits = 5;  // 32 buckets to each doubling
  static constexpr uint64_t kNumSteps = uint64_t{1} << kStepBits;
  static constexpr int kMaxBits = 40;  // 2^40 ns
  static constexpr size_t kNumBuckets = (kMaxBits - kStepBits + 1) * kNumSteps;

  static size_t BucketOf(Duration latency) {
    uint64_t ns = latency.count() < 0 ? 0 : static_cast<uint64_t>(latency.count());
    if (ns >> kMaxBits != 0) return kNumBuckets - 1;
    if (ns < kNumSteps) return static_cast<size_t>(ns);
    int shift = std::bit_width(ns) - 1 - kStepBits;
    return static_cast<size_t>(shift) * kNumSteps + static_cast<size_t>(ns >> shift);
  }
  // The longest that falls into the bucket.
  static Duration UpperBound(size_t bucket) {
    if (bucket < 2 * kNumSteps) return Duration(bucket);
    uint64_t shift = bucket / kNumSteps - 1;
    uint64_t first = (bucket % kNumSteps + kNumSteps) << shift;
    return Duration(first + (uint64_t{1} << shift) - 1);
  }

  void Add(Duration latency) { AddTo(BucketOf(latency), 1); }
  void AddTo(size_t bucket, uint64_t count) { counts_[bucket] += count; }

  // Adds all that the other has.
  void Merge(const LatencyHistogram& other);
  // What was added since `earlier`, an older state of the same histogram.
  LatencyHistogram Since(const LatencyHistogram& earlier) const;

  uint64_t count() const;
  // The latency that a share of `quantile` (0 to 1) of the operations did not exceed; 0 of none.
  Duration Quantile(double quantile) const;
  Duration Max() const { return Quantile(1.0); }

 private:
  std::array<uint64_t, kNumBuckets> counts_ = {};
};

}  // namespace strata::aio
