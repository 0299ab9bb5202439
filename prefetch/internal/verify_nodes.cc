#include <fmt/format.h>

#include <algorithm>

#include "prefetch/internal/node_bytes.h"
#include "prefetch/internal/verify_passes.h"

namespace strata::prefetch {
namespace {

Status CheckSlot(const StepPlan& plan, const Slot& slot, Tier tier, uint64_t needed_bytes) {
  if (slot.tier != tier) {
    return Internal(fmt::format("its slot is in the {} tier and must be in the {} tier",
                                TierName(slot.tier), TierName(tier)));
  }
  const uint64_t budget =
      tier == Tier::kDevice ? plan.budgets.device_bytes : plan.budgets.host_bytes;
  const std::string where =
      fmt::format("slot {} [{}, +{})", TierName(tier), slot.offset_bytes, slot.size_bytes);
  if (slot.size_bytes > budget || slot.offset_bytes > budget - slot.size_bytes) {
    return Internal(fmt::format("{} is outside the budget of {} bytes", where, budget));
  }
  if (slot.offset_bytes % tiering::kSlotAlignmentBytes != 0 ||
      slot.size_bytes % tiering::kSlotAlignmentBytes != 0) {
    return Internal(
        fmt::format("{} is not a multiple of {} bytes", where, tiering::kSlotAlignmentBytes));
  }
  if (slot.size_bytes < needed_bytes) {
    return Internal(fmt::format("{} is smaller than the {} bytes it holds", where, needed_bytes));
  }
  return OkStatus();
}

Lane TransferLane(NodeKind kind) {
  switch (kind) {
    case NodeKind::kRead:
      return Lane::kNvmeRead;
    case NodeKind::kWrite:
      return Lane::kNvmeWrite;
    case NodeKind::kCopyIn:
      return Lane::kH2d;
    default:
      return Lane::kD2h;
  }
}

Status CheckTransfer(const StepPlan& plan, const Node& node) {
  if (node.lane != TransferLane(node.kind)) {
    return Internal(fmt::format("is on lane {}, not on {}", LaneName(node.lane),
                                LaneName(TransferLane(node.kind))));
  }
  const bool is_io = node.kind == NodeKind::kRead || node.kind == NodeKind::kWrite;
  const TraceBlock& block = plan.trace.blocks[Index(node.block)];
  if (is_io && block.lifetime == Lifetime::kPersistent && block.home != Tier::kNvme) {
    return Internal(
        fmt::format("block {} is at home on {}, not on nvme", block.name, TierName(block.home)));
  }
  const uint64_t bytes = MovedBytes(plan, node);
  if (node.kind != NodeKind::kRead) {
    const Tier from = node.kind == NodeKind::kCopyOut ? Tier::kDevice : Tier::kHost;
    STRATA_RETURN_IF_ERROR(CheckSlot(plan, node.from, from, bytes));
  }
  if (node.kind == NodeKind::kWrite) return OkStatus();
  return CheckSlot(plan, node.to, node.kind == NodeKind::kCopyIn ? Tier::kDevice : Tier::kHost,
                   bytes);
}

bool Overlap(const Slot& a, const Slot& b) {
  return a.tier == b.tier && a.offset_bytes < b.offset_bytes + b.size_bytes &&
         b.offset_bytes < a.offset_bytes + a.size_bytes;
}

Status CheckDisjoint(const std::vector<Slot>& slots) {
  for (size_t a = 0; a < slots.size(); ++a) {
    for (size_t b = a + 1; b < slots.size(); ++b) {
      if (Overlap(slots[a], slots[b])) {
        return Internal(fmt::format("operands or workspace {} and {} share bytes", a, b));
      }
    }
  }
  return OkStatus();
}

Status CheckRun(const StepPlan& plan, const Node& node) {
  const TraceOp& op = plan.trace.ops[Index(node.op)];
  if (node.lane != op.lane) {
    return Internal(fmt::format("is on lane {}, but its op belongs on {}", LaneName(node.lane),
                                LaneName(op.lane)));
  }
  if (node.operands.size() != op.accesses.size()) {
    return Internal(fmt::format("has {} operands for {} accesses of its op", node.operands.size(),
                                op.accesses.size()));
  }
  std::vector<Slot> slots = node.operands;
  for (size_t i = 0; i < slots.size(); ++i) {
    const TraceBlock& block = plan.trace.blocks[Index(op.accesses[i].block)];
    STRATA_RETURN_IF_ERROR(CheckSlot(plan, slots[i], TierOf(op.lane), PaddedBytes(block))
                               .With("operand " + block.name));
  }
  if (op.workspace_bytes > 0 && !node.workspace) return Internal("has no workspace for its op");
  if (node.workspace) {
    STRATA_RETURN_IF_ERROR(
        CheckSlot(plan, *node.workspace, TierOf(op.lane), op.workspace_bytes).With("workspace"));
    slots.push_back(*node.workspace);
  }
  return CheckDisjoint(slots);
}

Status CheckDeps(NodeIndex index, const std::vector<NodeIndex>& deps) {
  if (std::adjacent_find(deps.begin(), deps.end(), std::greater_equal<>()) != deps.end()) {
    return Internal("its dependencies are not sorted and unique");
  }
  if (!deps.empty() && deps.back() >= index) {
    return Internal(fmt::format("depends on node {}, which is not before it", deps.back()));
  }
  return OkStatus();
}

Status CheckNode(const StepPlan& plan, NodeIndex index) {
  const Node& node = plan.nodes[index];
  STRATA_RETURN_IF_ERROR(CheckDeps(index, node.deps));
  return node.kind == NodeKind::kRun ? CheckRun(plan, node) : CheckTransfer(plan, node);
}

bool IdsInRange(const StepPlan& plan, const Node& node) {
  if (node.kind == NodeKind::kRun) return Index(node.op) < plan.trace.ops.size();
  return Index(node.block) < plan.trace.blocks.size();
}

Status CheckResident(const StepPlan& plan, const Resident& resident) {
  const TraceBlock& block = plan.trace.blocks[Index(resident.block)];
  if (block.lifetime != Lifetime::kPersistent) return Internal("does not outlive the step");
  if (resident.is_home != (block.home != Tier::kNvme)) {
    return Internal(
        fmt::format("is at home on {}, the resident says otherwise", TierName(block.home)));
  }
  if (resident.slot.tier == Tier::kNvme) return Internal("has its slot on nvme");
  const Tier tier = resident.is_home ? block.home : resident.slot.tier;
  return CheckSlot(plan, resident.slot, tier, PaddedBytes(block));
}

Status CheckSharedSlots(const StepPlan& plan) {
  std::vector<const Resident*> sorted;
  for (const Resident& resident : plan.residents) sorted.push_back(&resident);
  std::sort(sorted.begin(), sorted.end(), [](const Resident* a, const Resident* b) {
    return std::pair(a->slot.tier, a->slot.offset_bytes) <
           std::pair(b->slot.tier, b->slot.offset_bytes);
  });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (!Overlap(sorted[i - 1]->slot, sorted[i]->slot)) continue;
    return Internal(fmt::format("residents {} and {} share bytes",
                                plan.trace.blocks[Index(sorted[i - 1]->block)].name,
                                plan.trace.blocks[Index(sorted[i]->block)].name));
  }
  return OkStatus();
}

}  // namespace

std::string NodeLabel(const StepPlan& plan, NodeIndex node) {
  return fmt::format("node {} ({})", node, NodeName(plan, node));
}

Status VerifyNodes(const StepPlan& plan) {
  for (NodeIndex index = 0; index < plan.nodes.size(); ++index) {
    if (!IdsInRange(plan, plan.nodes[index])) {
      return Internal(fmt::format("node {} names an op or block that is not in the trace", index));
    }
    STRATA_RETURN_IF_ERROR(CheckNode(plan, index).With(NodeLabel(plan, index)));
  }
  return OkStatus();
}

Status VerifyResidents(const StepPlan& plan) {
  std::vector<uint32_t> slots(plan.trace.blocks.size());
  for (const Resident& resident : plan.residents) {
    if (Index(resident.block) >= plan.trace.blocks.size()) {
      return Internal("a resident names a block that is not in the trace");
    }
    const std::string& name = plan.trace.blocks[Index(resident.block)].name;
    STRATA_RETURN_IF_ERROR(CheckResident(plan, resident).With("resident " + name));
    ++slots[Index(resident.block)];
  }
  for (size_t i = 0; i < slots.size(); ++i) {
    const TraceBlock& block = plan.trace.blocks[i];
    const bool in_memory = block.lifetime == Lifetime::kPersistent && block.home != Tier::kNvme;
    if (slots[i] > 1 || (in_memory && slots[i] == 0)) {
      return Internal(fmt::format("block {} at home on {} has {} resident slots", block.name,
                                  TierName(block.home), slots[i]));
    }
  }
  return CheckSharedSlots(plan);
}

}  // namespace strata::prefetch
