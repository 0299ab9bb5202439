// Trace -> StepPlan.
//
// Placement: blocks at home in device or host memory have fixed slots; the rest streams. What stays
// cached is chosen by furthest next use (Belady, 1966) over the cyclic step: the step after is the
// same step again, so a block used early in the step is near when the step ends. Transfers stand as
// early in the sequence as memory and `prefetch_ops` allow.
#pragma once

#include "aio/base/status.h"
#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch {

struct CompileOptions {
  Budgets budgets;
  // How many ops ahead of an op its operands may be fetched; 0 fetches for an op only when the op
  // before it is done (a dependency, not a hint).
  uint32_t prefetch_ops = 8;
  // Host memory for blocks at home on nvme that stay cached for the whole run, the most often read
  // first. More saves reads, but leaves less for what streams. Less is used where it does not fit.
  uint64_t kept_host_bytes = 0;
};

// kResourceExhausted when the step cannot fit: names tier, op, what it needs and what there is.
// The result passes Verify().
Result<StepPlan> Compile(const Trace& trace, const CompileOptions& options);

// The best of several compilations (prefetch depths and kept bytes) by simulated step time on
// `hardware`; of those of about the same time, one that fetches at least two ops ahead, and then
// the one that writes and reads least.
// kResourceExhausted as above; SmallestBudgets says what would fit.
Result<StepPlan> CompileBest(const Trace& trace, const Budgets& budgets, const Hardware& hardware);

// Budgets close to the smallest under which the trace compiles: first the least device memory
// (given unlimited host memory), then the least host memory with the device as large as
// max(that, preferred.device_bytes). Multiples of 1 MiB; Compile() with them succeeds.
Result<Budgets> SmallestBudgets(const Trace& trace, const Budgets& preferred);

}  // namespace strata::prefetch
