// A timeline in the order of its lanes, and what a node waited for.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "prefetch/step_plan.h"
#include "prefetch/timeline.h"

namespace strata::prefetch {

// The dependency that ended last; none without dependencies.
inline std::optional<NodeIndex> LastDependency(const StepPlan& plan, const Timeline& timeline,
                                               NodeIndex node) {
  std::optional<NodeIndex> last;
  for (NodeIndex dep : plan.nodes[node].deps) {
    if (!last || timeline.spans[dep].end_s > timeline.spans[*last].end_s) last = dep;
  }
  return last;
}

// Why `node`'s lane stood still from `gap_begin_s` until the node started: see LaneUse.
std::string StallReason(const StepPlan& plan, const Timeline& timeline, NodeIndex node,
                        double gap_begin_s);

// By lane: its nodes by time of start.
std::array<std::vector<NodeIndex>, kNumLanes> NodesByLane(const StepPlan& plan,
                                                          const Timeline& timeline);

}  // namespace strata::prefetch
