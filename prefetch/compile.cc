#include "prefetch/compile.h"

#include <utility>

#include "aio/base/units.h"
#include "prefetch/internal/keep.h"
#include "prefetch/internal/steady_state.h"

namespace strata::prefetch {
namespace {

using internal::Layout;
using internal::SteadyStep;

std::vector<Resident> ResidentsOf(const Trace& trace, const SteadyStep& steady) {
  std::vector<Resident> residents;
  const Layout& layout = steady.layout;
  for (size_t block = 0; block < layout.slots.size(); ++block)
    if (layout.slots[block])
      residents.push_back({.block = static_cast<BlockId>(block),
                           .slot = *layout.slots[block],
                           .is_home = trace.blocks[block].home != Tier::kNvme});
  for (const internal::CachedCopy& copy : steady.cached)
    residents.push_back({.block = copy.block, .slot = copy.slot});
  return residents;
}

// Fetching ahead can scatter, and keeping can crowd out, what only just fits: less of both may fit.
Result<SteadyStep> FindSteady(const Trace& trace, const CompileOptions& options,
                              uint32_t* prefetch_ops) {
  internal::SteadyStateFinder finder(trace, options.budgets);
  uint64_t kept_bytes = options.kept_host_bytes;
  while (true) {
    Result<SteadyStep> found =
        finder.Find(*prefetch_ops, internal::BlocksWorthKeeping(trace, kept_bytes));
    if (found.ok() || (*prefetch_ops == 0 && kept_bytes == 0)) return found;
    if (kept_bytes > 0)
      kept_bytes = kept_bytes / 2 > 1_MiB ? kept_bytes / 2 : 0;
    else
      *prefetch_ops /= 2;
  }
}

}  // namespace

Result<StepPlan> Compile(const Trace& trace, const CompileOptions& options) {
  STRATA_RETURN_IF_ERROR(trace.Validate());
  uint32_t prefetch_ops = options.prefetch_ops;
  STRATA_ASSIGN_OR_RETURN(SteadyStep steady, FindSteady(trace, options, &prefetch_ops));
  StepPlan plan;
  plan.trace = trace;
  plan.budgets = options.budgets;
  plan.residents = ResidentsOf(trace, steady);
  plan.nodes = std::move(steady.step.nodes);
  plan.prefetch_ops = prefetch_ops;
  plan.peak_device_bytes = steady.step.usages[0].highest_end_bytes();
  plan.peak_host_bytes = steady.step.usages[1].highest_end_bytes();
  for (size_t tier = 0; tier < internal::kNumMemoryTiers; ++tier)
    plan.peak_by_purpose[tier] = steady.step.usages[tier].peak_by_purpose();
  return plan;
}

}  // namespace strata::prefetch
