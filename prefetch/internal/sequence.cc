#include "prefetch/internal/sequence.h"

#include <algorithm>

namespace strata::prefetch::internal {
namespace {

size_t LaneOf(const Node& node) { return static_cast<size_t>(node.lane); }

}  // namespace

bool Sequence::IsImplied(NodeIndex dep, const Clock& known,
                         const std::vector<NodeIndex>& kept) const {
  if (IsSerial(nodes_[dep].lane)) return dep < known[LaneOf(nodes_[dep])];
  return std::ranges::any_of(
      kept, [&](NodeIndex later) { return std::ranges::binary_search(nodes_[later].deps, dep); });
}

NodeIndex Sequence::Add(Node node, std::vector<NodeIndex> deps) {
  auto merge = [](Clock* into, const Clock& from) {
    for (size_t lane = 0; lane < kNumLanes; ++lane)
      (*into)[lane] = std::max((*into)[lane], from[lane]);
  };
  NodeIndex index = static_cast<NodeIndex>(nodes_.size());
  size_t lane = LaneOf(node);
  Clock known{};
  if (IsSerial(node.lane) && lane_clocks_[lane] > 0) known = clocks_[lane_clocks_[lane] - 1];
  // The latest first: what comes later may imply what came before it, never the reverse.
  std::ranges::sort(deps, std::ranges::greater());
  for (NodeIndex dep : deps) {
    bool is_duplicate = !node.deps.empty() && node.deps.back() == dep;
    if (is_duplicate || IsImplied(dep, known, node.deps)) continue;
    node.deps.push_back(dep);
    merge(&known, clocks_[dep]);
  }
  std::ranges::reverse(node.deps);
  if (IsSerial(node.lane)) known[lane] = lane_clocks_[lane] = index + 1;
  clocks_.push_back(known);
  nodes_.push_back(std::move(node));
  return index;
}

}  // namespace strata::prefetch::internal
