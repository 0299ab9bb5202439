#include "prefetch/internal/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::prefetch::internal {
namespace {

uint64_t RoundedToSlot(uint64_t bytes) { return RoundUp(bytes, tiering::kSlotAlignmentBytes); }

Slot TakeFixed(Layout* layout, Tier tier, uint64_t size_bytes) {
  uint64_t& end_bytes = layout->fixed_bytes[static_cast<size_t>(tier)];
  Slot slot{.tier = tier, .offset_bytes = end_bytes, .size_bytes = RoundedToSlot(size_bytes)};
  end_bytes += slot.size_bytes;
  return slot;
}

void PlaceHomes(const Trace& trace, Layout* layout) {
  for (const TraceBlock& block : trace.blocks) {
    std::optional<Slot> slot;
    if (IsHome(block, Tier::kDevice) || IsHome(block, Tier::kHost))
      slot = TakeFixed(layout, block.home, block.size_bytes);
    layout->slots.push_back(slot);
  }
}

void PlaceKept(const Trace& trace, const std::vector<BlockId>& kept, Layout* layout) {
  for (BlockId block : kept)
    layout->slots[Index(block)] =
        TakeFixed(layout, Tier::kHost, trace.blocks[Index(block)].size_bytes);
}

// One slot per lane is enough: a serial lane runs one op at a time.
void PlaceWorkspaces(const Trace& trace, Layout* layout) {
  std::array<uint64_t, kNumLanes> bytes{};
  for (const TraceOp& op : trace.ops) {
    uint64_t& lane_bytes = bytes[static_cast<size_t>(op.lane)];
    lane_bytes = std::max(lane_bytes, op.workspace_bytes);
  }
  for (Lane lane : {Lane::kCompute, Lane::kComm, Lane::kCpu}) {
    size_t index = static_cast<size_t>(lane);
    if (bytes[index] > 0) layout->workspaces[index] = TakeFixed(layout, TierOf(lane), bytes[index]);
  }
}

Status CheckFixedFits(const Layout& layout) {
  for (Tier tier : kMemoryTiers) {
    uint64_t needed = layout.fixed_bytes[static_cast<size_t>(tier)];
    uint64_t budget = layout.budget_bytes[static_cast<size_t>(tier)];
    if (needed > budget)
      return ResourceExhausted(
          fmt::format("{} memory: the blocks at home there and the workspaces need {}, the budget "
                      "is {}: raise it, or keep fewer blocks at home there",
                      tiering::TierName(tier), FormatBytes(needed), FormatBytes(budget)));
  }
  return OkStatus();
}

Status CheckOpFits(const Trace& trace, const TraceOp& op, const Layout& layout) {
  Tier tier = TierOf(op.lane);
  uint64_t fixed = layout.fixed_bytes[static_cast<size_t>(tier)];
  uint64_t operands = 0;
  for (const Access& access : op.accesses) {
    const TraceBlock& block = trace.blocks[Index(access.block)];
    if (!layout.HasFixedSlot(access.block, tier)) operands += SlotBytes(block);
  }
  uint64_t budget = layout.budget_bytes[static_cast<size_t>(tier)];
  if (fixed + operands <= budget) return OkStatus();
  return ResourceExhausted(
      fmt::format("{} memory: op '{}' needs {} at once ({} of operands, {} of blocks at home there "
                  "and workspaces), the budget is {}: raise it, or make the op's blocks smaller",
                  tiering::TierName(tier), op.name, FormatBytes(fixed + operands),
                  FormatBytes(operands), FormatBytes(fixed), FormatBytes(budget)));
}

}  // namespace

uint64_t BudgetOf(const Budgets& budgets, Tier tier) {
  return tier == Tier::kDevice ? budgets.device_bytes : budgets.host_bytes;
}

uint64_t SlotBytes(const TraceBlock& block) { return RoundedToSlot(block.size_bytes); }

bool IsHome(const TraceBlock& block, Tier tier) {
  return block.lifetime == Lifetime::kPersistent && block.home == tier;
}

Result<Layout> LayOut(const Trace& trace, const Budgets& budgets,
                      const std::vector<BlockId>& kept) {
  Layout layout;
  for (Tier tier : kMemoryTiers) {
    uint64_t bytes = BudgetOf(budgets, tier);
    layout.budget_bytes[static_cast<size_t>(tier)] = bytes - bytes % tiering::kSlotAlignmentBytes;
  }
  PlaceHomes(trace, &layout);
  PlaceKept(trace, kept, &layout);
  PlaceWorkspaces(trace, &layout);
  STRATA_RETURN_IF_ERROR(CheckFixedFits(layout));
  for (const TraceOp& op : trace.ops) STRATA_RETURN_IF_ERROR(CheckOpFits(trace, op, layout));
  return layout;
}

}  // namespace strata::prefetch::internal
