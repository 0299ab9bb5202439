#include "prefetch/internal/room.h"

#include <algorithm>

namespace strata::prefetch::internal {

Room::Room(const Trace& trace, const Layout& layout, const Future& future)
    : trace_(trace), changes_(trace.ops.size()) {
  for (size_t op = 0; op < trace.ops.size(); ++op) {
    for (const Access& access : trace.ops[op].accesses) {
      const TraceBlock& block = trace.blocks[Index(access.block)];
      if (layout.HasFixedSlot(access.block, TierOfOp(op))) continue;
      int64_t bytes = static_cast<int64_t>(SlotBytes(block));
      if (access.mode == AccessMode::kWrite) changes_[op].made_bytes += bytes;
      if (future.NextRead(access.block, op + 1) == Future::kNever)
        changes_[op].ended_bytes += bytes;
    }
  }
}

std::array<uint64_t, kNumMemoryTiers> Room::WantedBetween(size_t op, size_t until_op) const {
  std::array<int64_t, kNumMemoryTiers> growth{};
  std::array<int64_t, kNumMemoryTiers> most{};
  for (size_t i = op; i <= until_op; ++i) {
    size_t tier = static_cast<size_t>(TierOfOp(i));
    if (i > op) growth[tier] += changes_[i].made_bytes;  // op's own outputs have their slots
    most[tier] = std::max(most[tier], growth[tier]);
    growth[tier] -= changes_[i].ended_bytes;
  }
  return {static_cast<uint64_t>(most[0]), static_cast<uint64_t>(most[1])};
}

}  // namespace strata::prefetch::internal
