// What never moves: the slots of blocks at home in memory, of blocks kept in memory for the sake of
// their reads, and of the lanes' workspaces, at the bottom of each arena.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "aio/base/status.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch::internal {

inline constexpr std::array<Tier, 2> kMemoryTiers = {Tier::kDevice, Tier::kHost};
inline constexpr size_t kNumMemoryTiers = kMemoryTiers.size();
static_assert(static_cast<size_t>(Tier::kDevice) == 0 && static_cast<size_t>(Tier::kHost) == 1);

constexpr Tier OtherMemory(Tier tier) {
  return tier == Tier::kDevice ? Tier::kHost : Tier::kDevice;
}
uint64_t BudgetOf(const Budgets& budgets, Tier tier);
uint64_t SlotBytes(const TraceBlock& block);
bool IsHome(const TraceBlock& block, Tier tier);

struct Layout {
  std::array<uint64_t, kNumMemoryTiers> fixed_bytes{};   // arenas are free from here
  std::array<uint64_t, kNumMemoryTiers> budget_bytes{};  // up to here, a multiple of the alignment
  std::vector<std::optional<Slot>> slots;                // by block
  std::array<std::optional<Slot>, kNumLanes> workspaces;

  bool HasFixedSlot(BlockId block, Tier tier) const {
    const std::optional<Slot>& slot = slots[Index(block)];
    return slot && slot->tier == tier;
  }
  uint64_t FreeBytes(Tier tier) const {
    size_t index = static_cast<size_t>(tier);
    return budget_bytes[index] - fixed_bytes[index];
  }
};

// `kept`: blocks at home on nvme that stay in host memory, too. kResourceExhausted when the fixed
// slots, or any op's operands together with them, do not fit.
Result<Layout> LayOut(const Trace& trace, const Budgets& budgets, const std::vector<BlockId>& kept);

}  // namespace strata::prefetch::internal
