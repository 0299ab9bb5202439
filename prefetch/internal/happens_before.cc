#include "prefetch/internal/happens_before.h"

#include <algorithm>
#include <set>

namespace strata::prefetch {

HappensBefore::HappensBefore(const StepPlan& plan)
    : clocks_(plan.nodes.size()), followers_(plan.nodes.size()) {
  Clock last_on_lane{};
  for (NodeIndex index = 0; index < plan.nodes.size(); ++index) {
    const Node& node = plan.nodes[index];
    lanes_.push_back(node.lane);
    Clock& clock = clocks_[index];
    auto wait_for = [&](NodeIndex before) {
      for (size_t lane = 0; lane < kNumLanes; ++lane)
        clock[lane] = std::max(clock[lane], clocks_[before][lane]);
      const size_t lane = static_cast<size_t>(lanes_[before]);
      if (IsSerial(lanes_[before]))
        clock[lane] = std::max(clock[lane], before + 1);
      else
        followers_[before].push_back(index);
    };
    for (NodeIndex dep : node.deps) wait_for(dep);
    if (!IsSerial(node.lane)) continue;
    uint32_t& last = last_on_lane[static_cast<size_t>(node.lane)];
    if (last > 0) wait_for(last - 1);
    last = index + 1;
  }
}

// Whoever waits for `first` is mostly on a serial lane, and then knows at once; the way from one
// transfer of a drive to the next is short.
bool HappensBefore::Ordered(NodeIndex first, NodeIndex second) const {
  if (first >= second) return false;
  if (IsSerial(lanes_[first])) return IsOverBefore(first, second);
  std::vector<NodeIndex> left = {first};
  std::set<NodeIndex> seen;
  while (!left.empty()) {
    const NodeIndex node = left.back();
    left.pop_back();
    for (NodeIndex follower : followers_[node]) {
      if (follower == second) return true;
      if (follower > second) continue;
      if (IsSerial(lanes_[follower])) {
        if (IsOverBefore(follower, second)) return true;
      } else if (seen.insert(follower).second) {
        left.push_back(follower);
      }
    }
  }
  return false;
}

}  // namespace strata::prefetch
