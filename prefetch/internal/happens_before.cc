#include "prefetch/internal/happens_before.h"

#include <array>
#include <optional>

namespace strata::prefetch {

HappensBefore::HappensBefore(const StepPlan& plan) {
  size_t words = 0;
  for (size_t node = 0; node < plan.nodes.size(); ++node) {
    row_begin_.push_back(words);
    words += node / 64 + 1;
  }
  bits_.resize(words);
  std::array<std::optional<NodeIndex>, kNumLanes> last_on_lane;
  for (NodeIndex index = 0; index < plan.nodes.size(); ++index) {
    const Node& node = plan.nodes[index];
    for (NodeIndex dep : node.deps) Inherit(index, dep);
    if (!IsSerial(node.lane)) continue;
    auto& last = last_on_lane[static_cast<size_t>(node.lane)];
    if (last) Inherit(index, *last);
    last = index;
  }
}

void HappensBefore::Inherit(NodeIndex node, NodeIndex predecessor) {
  uint64_t* row = &bits_[row_begin_[node]];
  const uint64_t* from = Row(predecessor);
  for (size_t word = 0; word <= predecessor / 64; ++word) row[word] |= from[word];
  row[predecessor / 64] |= uint64_t{1} << (predecessor % 64);
}

}  // namespace strata::prefetch
