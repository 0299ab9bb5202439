// Which nodes of a plan are over before which others start, whatever the timing.
#pragma once

#include <cstdint>
#include <vector>

#include "prefetch/step_plan.h"

namespace strata::prefetch {

// The transitive closure of the dependencies and the order of the serial lanes, a bit per pair of
// nodes: 25 MB and some milliseconds for 20,000 nodes. Dependencies must point backwards.
class HappensBefore {
 public:
  explicit HappensBefore(const StepPlan& plan);

  bool Ordered(NodeIndex first, NodeIndex second) const {
    return first < second && (Row(second)[first / 64] >> (first % 64) & 1) != 0;
  }

 private:
  // Node n's row has a bit for each node before it.
  const uint64_t* Row(NodeIndex node) const { return &bits_[row_begin_[node]]; }
  void Inherit(NodeIndex node, NodeIndex predecessor);

  std::vector<size_t> row_begin_;
  std::vector<uint64_t> bits_;
};

}  // namespace strata::prefetch
