// Which kinds of step a run takes: the ways to clip that its configuration allows, and the choice
// between them.
#pragma once

#include <vector>

#include "aio/base/status.h"
#include "engine/train/planning.h"

namespace strata::engine {

// A way to run: the kind of most steps, and where all kept gradients are at home.
struct StepWay {
  StepKind kind = StepKind::kAfterNorm;
  tiering::Tier pending_home = tiering::Tier::kHost;
};

// What the configuration allows, the fastest to be expected first and the most frugal last.
// kInvalidArgument, with what to set, when it asks for what its state's homes cannot do.
Result<std::vector<StepWay>> AllowedWays(const PlannedRun& run);

// Kinds of step that a run of this main kind takes, that one first.
std::vector<StepKind> KindsWith(StepKind main);

StepProgram MakeProgramOf(const PlannedRun& run, StepKind kind, const PendingHomes& pending_homes);

// Places the host cache where its size is left to us, chooses a way by simulated time, and compiles
// all of its steps within the budgets into `run`. kResourceExhausted when none fits.
Status CompileSteps(const prefetch::Budgets& budgets, PlannedRun& run);

// After how many steps without a clip it pays to speculate again; see docs/step-plan.md.
uint32_t CalmSteps(double speculative_s, double deferred_s, double flush_s);

}  // namespace strata::engine
