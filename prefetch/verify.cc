#include "prefetch/verify.h"

#include "prefetch/internal/verify_passes.h"

namespace strata::prefetch {

Status Verify(const StepPlan& plan) {
  if (Status trace = plan.trace.Validate(); !trace.ok()) {
    return Internal("the plan's trace is not valid: " + trace.message());
  }
  STRATA_RETURN_IF_ERROR(VerifyNodes(plan));
  STRATA_RETURN_IF_ERROR(VerifyResidents(plan));
  const HappensBefore before(plan);
  STRATA_RETURN_IF_ERROR(VerifyOps(plan, before));
  return VerifyContents(plan, before);
}

}  // namespace strata::prefetch
