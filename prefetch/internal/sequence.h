// The nodes of a plan as they are made, each with as few dependencies as say the same.
#pragma once

#include <array>
#include <vector>

#include "prefetch/step_plan.h"

namespace strata::prefetch::internal {

class Sequence {
 public:
  // Appends `node`; its deps become those of `deps` that nothing else implies.
  NodeIndex Add(Node node, std::vector<NodeIndex> deps);

  const std::vector<Node>& nodes() const { return nodes_; }
  std::vector<Node> TakeNodes() && { return std::move(nodes_); }

 private:
  // By serial lane: one more than the last node there that is known to be done.
  using Clock = std::array<NodeIndex, kNumLanes>;
  bool IsImplied(NodeIndex dep, const Clock& known, const std::vector<NodeIndex>& kept) const;

  std::vector<Node> nodes_;
  std::vector<Clock> clocks_;  // by node: what is known to be done when it is done, itself included
  Clock lane_clocks_{};        // by serial lane: its last node, plus one
};

}  // namespace strata::prefetch::internal
