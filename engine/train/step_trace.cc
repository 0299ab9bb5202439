#include "engine/train/step_trace.h"

namespace strata::engine {

std::string StepTrace::ToJson(const PlannedRun& run) const {
  prefetch::TracedSteps measured{.name = "measured", .steps = {}};
  prefetch::TracedSteps expected{.name = "simulated", .steps = {}};
  for (const auto& [kind, timeline] : steps_) {
    const StepView planned = StepOf(run, kind);
    measured.steps.push_back({&planned.plan, timeline});
    expected.steps.push_back({&planned.plan, planned.predicted});
  }
  return prefetch::ChromeTrace({measured, expected});
}

}  // namespace strata::engine
