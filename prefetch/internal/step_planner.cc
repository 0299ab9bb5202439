#include "prefetch/internal/step_planner.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/units.h"

namespace strata::prefetch::internal {

StepPlanner::StepPlanner(const Trace& trace, const Layout& layout, const Future& future,
                         uint32_t prefetch_ops, const std::vector<CachedCopy>& cached)
    : trace_(trace),
      layout_(layout),
      future_(future),
      prefetch_ops_(prefetch_ops),
      room_(trace, layout, future),
      placement_(trace, layout, future, prefetch_ops) {
  placement_.StartWith(cached);
}

Result<PlannedStep> StepPlanner::Plan() && {
  for (size_t op = 0; op < trace_.ops.size(); ++op) STRATA_RETURN_IF_ERROR(PlanOp(op));
  std::vector<CachedCopy> cached = placement_.CachedCopies();
  std::array<Usage, kNumMemoryTiers> usages = {placement_.usage(Tier::kDevice),
                                               placement_.usage(Tier::kHost)};
  return PlannedStep{std::move(placement_).TakeNodes(), std::move(cached), std::move(usages)};
}

Status StepPlanner::PlanOp(size_t op) {
  placement_.StartOp(op, prefetch_ops_ == 0 ? last_run_ : std::nullopt);
  if (!PlaceOperands(op, Choice::kReadiest) && !PlaceOperandsAfresh(op)) return NoRoom(op);
  FetchAhead(op);
  last_run_ = placement_.Run(static_cast<OpId>(op));
  UnpinOperands();
  for (const Access& access : trace_.ops[op].accesses) {
    bool is_final = trace_.blocks[Index(access.block)].lifetime == Lifetime::kPersistent &&
                    future_.IsLastWrite(access.block, op);
    if (is_final && !WriteBack(access.block, op)) return NoRoom(op);
    placement_.Settle(access.block, op);
  }
  return OkStatus();
}

bool StepPlanner::PlaceOperands(size_t op, Choice choice) {
  Request request{.for_op = op, .choice = choice};
  Tier tier = TierOf(trace_.ops[op].lane);
  auto pin = [&](BlockId block) {
    placement_.Pin(block, tier);
    pinned_.push_back({block, tier});
  };
  const std::vector<Access>& accesses = trace_.ops[op].accesses;
  // What is there already must not make room for the others.
  for (const Access& access : accesses)
    if (placement_.HasSlot(access.block, tier)) pin(access.block);
  for (const Access& access : accesses) {
    bool had_slot = placement_.HasSlot(access.block, tier);
    bool is_placed = access.mode == AccessMode::kWrite
                         ? placement_.HaveSlot(access.block, tier, request)
                         : placement_.Bring(access.block, tier, request);
    if (!is_placed) return false;
    if (!had_slot) pin(access.block);
  }
  return true;
}

bool StepPlanner::PlaceOperandsAfresh(size_t op) {
  UnpinOperands();
  return placement_.Clear(TierOf(trace_.ops[op].lane), {.for_op = op}) &&
         PlaceOperands(op, Choice::kLowest);
}

void StepPlanner::UnpinOperands() {
  for (const Pinned& copy : pinned_) placement_.Unpin(copy.block, copy.tier);
  pinned_.clear();
}

void StepPlanner::FetchAhead(size_t op) {
  size_t last_op = std::min<size_t>(op + prefetch_ops_, trace_.ops.size() - 1);
  // In order: an op that cannot have its operands yet must not lose the room to a later one.
  for (size_t later_op = op + 1; later_op <= last_op; ++later_op)
    if (!FetchFor(op, later_op)) return;
}

bool StepPlanner::FetchFor(size_t op, size_t later_op) {
  Tier tier = TierOf(trace_.ops[later_op].lane);
  Request request{.for_op = later_op,
                  .keep_until = later_op + prefetch_ops_,
                  .reserve_bytes = room_.WantedBetween(op, later_op)};
  for (const Access& access : trace_.ops[later_op].accesses) {
    if (access.mode == AccessMode::kWrite) continue;
    if (future_.IsWrittenIn(access.block, op, later_op)) continue;
    if (!placement_.Bring(access.block, tier, request)) return false;
  }
  return true;
}

bool StepPlanner::WriteBack(BlockId block, size_t op) {
  if (placement_.WriteBack(block, {.for_op = op})) return true;
  return placement_.Clear(Tier::kHost, {.for_op = op}) &&
         placement_.WriteBack(block, {.for_op = op});
}

Status StepPlanner::NoRoom(size_t op) const {
  const Shortage& shortage = placement_.shortage();
  const TraceBlock& block = trace_.blocks[Index(shortage.block)];
  size_t tier = static_cast<size_t>(shortage.tier);
  uint64_t needed = layout_.fixed_bytes[tier] + SlotBytes(block);
  return ResourceExhausted(fmt::format(
      "{} memory: op '{}' needs {} at once (block '{}' of {} passes through, {} of blocks at home "
      "there and workspaces), the budget is {}: raise it",
      tiering::TierName(shortage.tier), trace_.ops[op].name, FormatBytes(needed), block.name,
      FormatBytes(SlotBytes(block)), FormatBytes(layout_.fixed_bytes[tier]),
      FormatBytes(layout_.budget_bytes[tier])));
}

}  // namespace strata::prefetch::internal
