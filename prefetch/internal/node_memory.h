// Where a plan's slots are in real memory.
#pragma once

#include <span>
#include <vector>

#include "prefetch/executor.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch {

// Immutable.
class NodeMemory {
 public:
  NodeMemory(const StepPlan& plan, const ExecutorParts& parts);

  // The first `length_bytes` of a slot.
  std::span<std::byte> Bytes(const Slot& slot, uint64_t length_bytes) const;
  // Of a kRun node.
  Operands OperandsOf(NodeIndex node) const {
    return {.blocks = blocks_[node], .workspace = workspaces_[node]};
  }

 private:
  void AddRun(const StepPlan& plan, NodeIndex node);

  std::span<std::byte> device_;
  const tiering::Arena* host_;
  std::vector<std::vector<std::span<std::byte>>> blocks_;  // by node
  std::vector<std::span<std::byte>> workspaces_;           // by node
};

}  // namespace strata::prefetch
