// What never moves: the slots of blocks at home in memory and of the lanes' workspaces, at the
// bottom of each arena.
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

uint64_t BudgetOf(const Budgets& budgets, Tier tier);
uint64_t SlotBytes(const TraceBlock& block);
// Whether the block has a slot for the whole run in `tier`.
bool IsHome(const TraceBlock& block, Tier tier);

struct Layout {
  std::array<uint64_t, kNumMemoryTiers> fixed_bytes{};   // arenas are free from here
  std::array<uint64_t, kNumMemoryTiers> budget_bytes{};  // up to here, a multiple of the alignment
  std::vector<std::optional<Slot>> homes;                // by block
  std::array<std::optional<Slot>, kNumLanes> workspaces;
};

// kResourceExhausted when the fixed slots, or any op's operands together with them, do not fit.
Result<Layout> LayOut(const Trace& trace, const Budgets& budgets);

}  // namespace strata::prefetch::internal
