#include "prefetch/compile.h"

#include <algorithm>
#include <utility>

#include "prefetch/internal/future.h"
#include "prefetch/internal/layout.h"
#include "prefetch/internal/step_planner.h"

namespace strata::prefetch {
namespace {

using internal::Future;
using internal::Layout;
using internal::PlannedStep;
using internal::StepPlanner;

// What is in the same slot at both ends of the step.
std::vector<Resident> InBoth(const std::vector<Resident>& start, const std::vector<Resident>& end) {
  std::vector<Resident> both;
  for (const Resident& resident : start) {
    bool is_there = std::ranges::any_of(end, [&](const Resident& other) {
      return other.block == resident.block && other.slot == resident.slot;
    });
    if (is_there) both.push_back(resident);
  }
  return both;
}

struct CyclicStep {
  PlannedStep step;
  std::vector<Resident> cached;  // at the start and at the end
};

// The cache at the end of a step is the cache at the start of the next. The first rounds let the
// step find its own steady state; then what does not come back is given up, until all does.
class CycleFinder {
 public:
  CycleFinder(const Trace& trace, const Layout& layout, uint32_t prefetch_ops)
      : trace_(trace), layout_(layout), future_(trace), prefetch_ops_(prefetch_ops) {}

  Result<CyclicStep> Find() {
    STRATA_ASSIGN_OR_RETURN(PlannedStep cold, PlanFrom({}));
    std::vector<Resident> start = cold.cached;
    for (int round = 0; round < kMaxRounds && !start.empty(); ++round) {
      Result<PlannedStep> warm = PlanFrom(start);
      if (!warm.ok()) break;
      std::vector<Resident> both = InBoth(start, warm->cached);
      if (both.size() == start.size()) return CyclicStep{std::move(*warm), std::move(start)};
      start = round < kFreeRounds ? std::move(warm->cached) : std::move(both);
    }
    return CyclicStep{std::move(cold), {}};
  }

 private:
  static constexpr int kFreeRounds = 3;
  static constexpr int kMaxRounds = 16;

  Result<PlannedStep> PlanFrom(const std::vector<Resident>& cached) const {
    return StepPlanner(trace_, layout_, future_, prefetch_ops_, cached).Plan();
  }

  const Trace& trace_;
  const Layout& layout_;
  Future future_;
  uint32_t prefetch_ops_;
};

std::vector<Resident> HomesOf(const Layout& layout) {
  std::vector<Resident> homes;
  for (size_t block = 0; block < layout.homes.size(); ++block)
    if (layout.homes[block])
      homes.push_back(
          {.block = static_cast<BlockId>(block), .slot = *layout.homes[block], .is_home = true});
  return homes;
}

}  // namespace

Result<StepPlan> Compile(const Trace& trace, const CompileOptions& options) {
  STRATA_RETURN_IF_ERROR(trace.Validate());
  STRATA_ASSIGN_OR_RETURN(Layout layout, internal::LayOut(trace, options.budgets));
  uint32_t prefetch_ops = options.prefetch_ops;
  Result<CyclicStep> found = CycleFinder(trace, layout, prefetch_ops).Find();
  // Fetching ahead can scatter what only just fits.
  while (!found.ok() && prefetch_ops > 0) {
    prefetch_ops /= 2;
    found = CycleFinder(trace, layout, prefetch_ops).Find();
  }
  STRATA_ASSIGN_OR_RETURN(CyclicStep cycle, std::move(found));
  StepPlan plan;
  plan.trace = trace;
  plan.budgets = options.budgets;
  plan.nodes = std::move(cycle.step.nodes);
  plan.residents = HomesOf(layout);
  plan.residents.insert(plan.residents.end(), cycle.cached.begin(), cycle.cached.end());
  plan.prefetch_ops = prefetch_ops;
  plan.peak_device_bytes = cycle.step.usages[0].highest_end_bytes();
  plan.peak_host_bytes = cycle.step.usages[1].highest_end_bytes();
  for (size_t tier = 0; tier < internal::kNumMemoryTiers; ++tier)
    plan.peak_by_purpose[tier] = cycle.step.usages[tier].peak_by_purpose();
  return plan;
}

}  // namespace strata::prefetch
