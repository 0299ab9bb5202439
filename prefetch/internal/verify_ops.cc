#include <fmt/format.h>

#include <array>
#include <optional>

#include "prefetch/internal/verify_passes.h"

namespace strata::prefetch {
namespace {

// By op: the node that runs it.
Result<std::vector<NodeIndex>> NodesOfOps(const StepPlan& plan) {
  std::vector<std::optional<NodeIndex>> found(plan.trace.ops.size());
  std::array<std::optional<NodeIndex>, kNumLanes> last;
  for (NodeIndex index = 0; index < plan.nodes.size(); ++index) {
    const Node& node = plan.nodes[index];
    if (node.kind != NodeKind::kRun) continue;
    std::optional<NodeIndex>& slot = found[Index(node.op)];
    if (slot) {
      return Internal(
          fmt::format("{} runs an op that node {} has run", NodeLabel(plan, index), *slot));
    }
    slot = index;
    std::optional<NodeIndex>& previous = last[static_cast<size_t>(node.lane)];
    if (previous && plan.nodes[*previous].op > node.op) {
      return Internal(fmt::format("{} is out of trace order on its lane, after {}",
                                  NodeLabel(plan, index), NodeLabel(plan, *previous)));
    }
    previous = index;
  }
  std::vector<NodeIndex> nodes;
  for (size_t op = 0; op < found.size(); ++op) {
    if (!found[op]) return Internal("no node runs op " + plan.trace.ops[op].name);
    nodes.push_back(*found[op]);
  }
  return nodes;
}

struct Uses {
  std::optional<NodeIndex> writer;
  std::vector<NodeIndex> readers;  // of the writer's version
};

class DataOrder {
 public:
  DataOrder(const StepPlan& plan, const HappensBefore& before)
      : plan_(plan), before_(before), uses_(plan.trace.blocks.size()) {}

  Status Add(NodeIndex node, const Access& access) {
    Uses& uses = uses_[Index(access.block)];
    const std::string& name = plan_.trace.blocks[Index(access.block)].name;
    if (uses.writer) {
      STRATA_RETURN_IF_ERROR(CheckOrdered(*uses.writer, node).With("data dependency on " + name));
    }
    if (access.mode == AccessMode::kRead) {
      uses.readers.push_back(node);
      return OkStatus();
    }
    for (NodeIndex reader : uses.readers) {
      STRATA_RETURN_IF_ERROR(CheckOrdered(reader, node).With("next write of " + name));
    }
    uses = {.writer = node, .readers = {}};
    return OkStatus();
  }

 private:
  Status CheckOrdered(NodeIndex first, NodeIndex second) const {
    if (before_.Ordered(first, second)) return OkStatus();
    return Internal(fmt::format("{} must happen before {}, and nothing orders them",
                                NodeLabel(plan_, first), NodeLabel(plan_, second)));
  }

  const StepPlan& plan_;
  const HappensBefore& before_;
  std::vector<Uses> uses_;
};

}  // namespace

Status VerifyOps(const StepPlan& plan, const HappensBefore& before) {
  STRATA_ASSIGN_OR_RETURN(const std::vector<NodeIndex> nodes, NodesOfOps(plan));
  DataOrder order(plan, before);
  for (size_t op = 0; op < nodes.size(); ++op) {
    for (const Access& access : plan.trace.ops[op].accesses) {
      STRATA_RETURN_IF_ERROR(order.Add(nodes[op], access));
    }
  }
  return OkStatus();
}

}  // namespace strata::prefetch
