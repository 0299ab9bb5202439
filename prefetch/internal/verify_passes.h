// The passes of Verify(), in the order in which they run; each relies on the ones before it.
#pragma once

#include <string>

#include "aio/base/status.h"
#include "prefetch/internal/happens_before.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch {

// "node 12 (read layers.3.mlp/w)".
std::string NodeLabel(const StepPlan& plan, NodeIndex node);

// Each node by itself: kind, lane, ids, dependencies backwards, slots inside budgets and aligned.
Status VerifyNodes(const StepPlan& plan);

// Residents: what may be one, in slots of their own.
Status VerifyResidents(const StepPlan& plan);

// Every op once, in trace order per lane; its data dependencies ordered.
Status VerifyOps(const StepPlan& plan, const HappensBefore& before);

// Every access finds its version and is ordered with all that conflict with it; what is left at the
// end of the step.
Status VerifyContents(const StepPlan& plan, const HappensBefore& before);

}  // namespace strata::prefetch
