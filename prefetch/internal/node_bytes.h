// How many bytes nodes touch and move.
#pragma once

#include <cstdint>

#include "aio/base/units.h"
#include "prefetch/step_plan.h"
#include "tiering/arena.h"

namespace strata::prefetch {

// What a block takes up in memory and on nvme.
inline uint64_t PaddedBytes(const TraceBlock& block) {
  return RoundUp(block.size_bytes, tiering::kSlotAlignmentBytes);
}

// Of a transfer; 0 for an op.
inline uint64_t MovedBytes(const StepPlan& plan, const Node& node) {
  return node.kind == NodeKind::kRun ? 0 : PaddedBytes(plan.trace.blocks[Index(node.block)]);
}

}  // namespace strata::prefetch
