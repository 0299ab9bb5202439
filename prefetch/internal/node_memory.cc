#include "prefetch/internal/node_memory.h"

namespace strata::prefetch {

NodeMemory::NodeMemory(const StepPlan& plan, const ExecutorParts& parts)
    : host_(parts.host), blocks_(plan.nodes.size()), workspaces_(plan.nodes.size()) {
  if (parts.device != nullptr) device_ = parts.device->memory();
  for (NodeIndex node = 0; node < plan.nodes.size(); ++node) {
    if (plan.nodes[node].kind == NodeKind::kRun) AddRun(plan, node);
  }
}

std::span<std::byte> NodeMemory::Bytes(const Slot& slot, uint64_t length_bytes) const {
  if (slot.tier == Tier::kHost) {
    STRATA_CHECK(host_ != nullptr);
    return host_->Slot(slot.offset_bytes, length_bytes);
  }
  STRATA_CHECK(length_bytes <= device_.size() &&
               slot.offset_bytes <= device_.size() - length_bytes);
  return device_.subspan(slot.offset_bytes, length_bytes);
}

void NodeMemory::AddRun(const StepPlan& plan, NodeIndex index) {
  const Node& node = plan.nodes[index];
  const TraceOp& op = plan.trace.ops[Index(node.op)];
  for (size_t i = 0; i < op.accesses.size(); ++i) {
    const TraceBlock& block = plan.trace.blocks[Index(op.accesses[i].block)];
    blocks_[index].push_back(Bytes(node.operands[i], block.size_bytes));
  }
  if (op.workspace_bytes > 0) workspaces_[index] = Bytes(*node.workspace, op.workspace_bytes);
}

}  // namespace strata::prefetch
