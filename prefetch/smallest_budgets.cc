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

// The least multiple of 1 MiB for which `fits` holds: doubles until it does, then bisects.
Result<uint64_t> LeastBytes(const std::function<Status(uint64_t bytes)>& fits) {
  if (fits(0).ok()) return 0;
  uint64_t too_few = 0, enough = 1_MiB;
  for (Status status = fits(enough); !status.ok(); status = fits(enough)) {
    if (enough >= kUnlimitedBytes) return status;
    too_few = enough;
    enough *= 2;
  }
  while (enough - too_few > 1_MiB) {
    uint64_t middle = RoundUp(too_few + (enough - too_few) / 2, 1_MiB);
    (fits(middle).ok() ? enough : too_few) = middle;
  }
  return enough;
}

}  // namespace

Result<Budgets> SmallestBudgets(const Trace& trace, const Budgets& preferred) {
  STRATA_RETURN_IF_ERROR(trace.Validate());
  internal::Future future(trace);
  STRATA_ASSIGN_OR_RETURN(uint64_t device_bytes, LeastBytes([&](uint64_t bytes) {
                            return TryToFit(trace, future, {bytes, kUnlimitedBytes});
                          }));
  device_bytes = std::max(device_bytes, preferred.device_bytes - preferred.device_bytes % 1_MiB);
  STRATA_ASSIGN_OR_RETURN(uint64_t host_bytes, LeastBytes([&](uint64_t bytes) {
                            return TryToFit(trace, future, {device_bytes, bytes});
                          }));
  return Budgets{.device_bytes = device_bytes, .host_bytes = host_bytes};
}

}  // namespace strata::prefetch
