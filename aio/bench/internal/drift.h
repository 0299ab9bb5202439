// What the disk did to all settings alike: bursts that end, throttling, a neighbour's load.
#pragma once

#include <cstddef>
#include <vector>

namespace strata::aio::bench_internal {

// One measurement of one kind of traffic.
struct Observation {
  size_t candidate = 0;
  double log_throughput = 0;
};

// Fits log_throughput = level of the candidate + drift(time) by medians, taking turns; the drift is
// a running median over neighbours in time, so that a burst that ends within a round is seen, too.
// `observations` stand in the order they were made in. Returns the drift at each of them; it is
// zero in the median of the later half, which is what a long run will see. Without a candidate that
// was measured twice nothing can be known, and it is zero everywhere.
std::vector<double> FitDrift(const std::vector<Observation>& observations, size_t num_candidates);

}  // namespace strata::aio::bench_internal
