#include "prefetch/step_plan.h"

#include <fmt/format.h>

namespace strata::prefetch {
namespace {

const TraceBlock& BlockOf(const StepPlan& plan, const Node& node) {
  return plan.trace.blocks[Index(node.block)];
}

std::string_view Verb(NodeKind kind) {
  constexpr std::array<std::string_view, 5> kVerbs = {"read", "write", "copy in", "copy out",
                                                      "run"};
  return kVerbs[static_cast<size_t>(kind)];
}

}  // namespace

Traffic TrafficOf(const StepPlan& plan) {
  Traffic traffic;
  for (const Node& node : plan.nodes) {
    if (node.kind == NodeKind::kRun) continue;
    uint64_t bytes = node.kind == NodeKind::kWrite ? node.from.size_bytes : node.to.size_bytes;
    traffic.bytes_by_lane[static_cast<size_t>(node.lane)] += bytes;
    const std::string& purpose = BlockOf(plan, node).purpose;
    if (node.kind == NodeKind::kRead) traffic.nvme_read_by_purpose[purpose] += bytes;
    if (node.kind == NodeKind::kWrite) traffic.nvme_written_by_purpose[purpose] += bytes;
  }
  return traffic;
}

std::vector<BlockId> SpilledBlocks(const StepPlan& plan) {
  std::vector<bool> spilled(plan.trace.blocks.size(), false);
  for (const Node& node : plan.nodes)
    if (node.kind == NodeKind::kWrite && BlockOf(plan, node).lifetime == Lifetime::kStep)
      spilled[Index(node.block)] = true;
  std::vector<BlockId> blocks;
  for (size_t block = 0; block < spilled.size(); ++block)
    if (spilled[block]) blocks.push_back(static_cast<BlockId>(block));
  return blocks;
}

std::string NodeName(const StepPlan& plan, NodeIndex index) {
  const Node& node = plan.nodes[index];
  const std::string& what =
      node.kind == NodeKind::kRun ? plan.trace.ops[Index(node.op)].name : BlockOf(plan, node).name;
  return fmt::format("{} {}", Verb(node.kind), what);
}

}  // namespace strata::prefetch
