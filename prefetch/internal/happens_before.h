// Which nodes of a plan are over before which others start, whatever the timing.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "prefetch/step_plan.h"

namespace strata::prefetch {

// What follows from the dependencies and the order of the serial lanes. Of each serial lane a node
// knows the last one that is over before it, which stands for all before that; from a node on a
// lane that is not serial the way is searched. So it is linear in nodes, of which large plans have
// half a million. Dependencies must point backwards.
class HappensBefore {
 public:
  explicit HappensBefore(const StepPlan& plan);

  bool Ordered(NodeIndex first, NodeIndex second) const;

 private:
  // By lane: one more than the last node there that is over before; 0: none is.
  using Clock = std::array<uint32_t, kNumLanes>;

  bool IsOverBefore(NodeIndex serial, NodeIndex second) const {
    return serial < clocks_[second][static_cast<size_t>(lanes_[serial])];
  }

  std::vector<Lane> lanes_;
  std::vector<Clock> clocks_;
  std::vector<std::vector<NodeIndex>> followers_;  // of nodes on lanes that are not serial
};

}  // namespace strata::prefetch
