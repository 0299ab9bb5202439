// The step as it repeats: what is cached when it starts is cached when it ends.
#pragma once

#include <vector>

#include "aio/base/status.h"
#include "prefetch/internal/future.h"
#include "prefetch/internal/layout.h"
#include "prefetch/internal/step_planner.h"

namespace strata::prefetch::internal {

struct SteadyStep {
  Layout layout;
  PlannedStep step;
  std::vector<CachedCopy> cached;  // at the start and at the end; not what the layout keeps
};

// Some blocks keep a host slot for the whole run; and what the rest of memory holds at the end of
// the step may be where it is needed at the start.
class SteadyStateFinder {
 public:
  // All references outlive it.
  SteadyStateFinder(const Trace& trace, const Budgets& budgets)
      : trace_(trace), budgets_(budgets), future_(trace) {}

  Result<SteadyStep> Find(uint32_t prefetch_ops, const std::vector<BlockId>& kept) const;

 private:
  SteadyStep WithWarmStart(uint32_t prefetch_ops, SteadyStep cold) const;

  const Trace& trace_;
  const Budgets& budgets_;
  Future future_;
};

}  // namespace strata::prefetch::internal
