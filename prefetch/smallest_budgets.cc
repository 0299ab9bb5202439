#include <algorithm>
#include <functional>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/internal/future.h"
#include "prefetch/internal/layout.h"
#include "prefetch/internal/step_planner.h"

namespace strata::prefetch {
namespace {

constexpr uint64_t kUnlimitedBytes = 1ULL << 50;

// Whether Compile() would succeed: what it does first, and all that can fail of it.
Status TryToFit(const Trace& trace, const internal::Future& future, const Budgets& budgets) {
  STRATA_ASSIGN_OR_RETURN(internal::Layout layout, internal::LayOut(trace, budgets, {}));
  return internal::StepPlanner(trace, layout, future, /*prefetch_ops=*/0, {}).Plan().status();
}

// The least multiple of 1 MiB for which `fits` holds, given that it holds for nothing below `from`
// (such a multiple itself): steps up in doubling strides until it does, then bisects.
Result<uint64_t> LeastBytes(uint64_t from, const std::function<Status(uint64_t bytes)>& fits) {
  uint64_t too_few = from, enough = from;
  for (Status status = fits(enough); !status.ok(); status = fits(enough)) {
    if (enough >= kUnlimitedBytes) return status;
    too_few = enough;
    enough = from + 2 * (enough - from) + 1_MiB;
  }
  while (enough - too_few > 1_MiB) {
    uint64_t middle = RoundUp(too_few + (enough - too_few) / 2, 1_MiB);
    (fits(middle).ok() ? enough : too_few) = middle;
  }
  return enough;
}

// Of one tier, when all else is given: first what a look at each op tells, then by planning.
Result<uint64_t> LeastOf(uint64_t Budgets::*tier_bytes, Budgets budgets, const Trace& trace,
                         const internal::Future& future) {
  auto with = [&](uint64_t bytes) {
    budgets.*tier_bytes = bytes;
    return budgets;
  };
  STRATA_ASSIGN_OR_RETURN(uint64_t lower_bound, LeastBytes(0, [&](uint64_t bytes) {
                            return internal::LayOut(trace, with(bytes), {}).status();
                          }));
  return LeastBytes(lower_bound,
                    [&](uint64_t bytes) { return TryToFit(trace, future, with(bytes)); });
}

}  // namespace

Result<Budgets> SmallestBudgets(const Trace& trace, const Budgets& preferred) {
  STRATA_RETURN_IF_ERROR(trace.Validate());
  internal::Future future(trace);
  Budgets budgets{.device_bytes = kUnlimitedBytes, .host_bytes = kUnlimitedBytes};
  STRATA_ASSIGN_OR_RETURN(uint64_t device_bytes,
                          LeastOf(&Budgets::device_bytes, budgets, trace, future));
  uint64_t preferred_bytes = preferred.device_bytes - preferred.device_bytes % 1_MiB;
  budgets.device_bytes = std::max(device_bytes, preferred_bytes);
  STRATA_ASSIGN_OR_RETURN(budgets.host_bytes,
                          LeastOf(&Budgets::host_bytes, budgets, trace, future));
  return budgets;
}

}  // namespace strata::prefetch
