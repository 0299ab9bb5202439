// Runs a plan in virtual time, by the lane rules of the executor.
//
// A fluid model: at any moment the nodes under way share the resources. Ops on the cores want
// op_threads cores each, copies and checksums one; when more are wanted than there are, all slow
// down alike. What transfers of nvme take of the cores comes first. The nvme lanes have the mixed
// rate while both are busy, each half of it, otherwise their own.
#pragma once

#include "prefetch/hardware.h"
#include "prefetch/timeline.h"

namespace strata::prefetch {

Timeline Simulate(const StepPlan& plan, const Hardware& hardware);

}  // namespace strata::prefetch
