// What happened when, measured or simulated, in the same form.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch {

struct Span {
  NodeIndex node = 0;
  double start_s = 0;  // since the start of the step
  double end_s = 0;
};

struct Timeline {
  std::vector<Span> spans;  // one per node, indexed by node
  double step_s = 0;
};

// A lane's step, split: busy + stalls (by reason) + idle (nothing left to do) == step_s.
struct LaneUse {
  uint64_t bytes = 0;
  double busy_s = 0;  // union of its spans: overlapping I/O counts once
  double idle_s = 0;  // after its last node
  // Reason: the dependency of the next node that ended last in the gap, as the name of its lane
  // ("nvme-read"); where none did, "start" before the lane's first node and "issue" later.
  std::map<std::string, double> stalled_s;
};
std::array<LaneUse, kNumLanes> UseOf(const StepPlan& plan, const Timeline& timeline);

// The least time the step could take (DESIGN.md §7): max over resources of the work put on it
// divided by its rate alone. Resources: nvme, h2d, d2h, compute, comm, cpu; on a device that shares
// the cores the last five and the checksums are one: cores. On nvme, reads and writes go mixed as
// long as both have something left, or in turns where that is faster: the model of simulate.h, so
// no simulated step is shorter than its bound.
struct Bound {
  double seconds = 0;
  std::string resource;
  std::map<std::string, double> seconds_by_resource;
};
Bound BoundOf(const StepPlan& plan, const Hardware& hardware);

// Chrome trace event JSON, as Perfetto and chrome://tracing read it: one process per entry (say
// "measured" and "simulated"), one track per lane, steps one after the other. The same step starts
// at the same time in every process. Each event's args hold node, bytes and what it waited for. I/O
// that was in flight together stands one after the other on its track, so that a lane's events add
// up to its busy time; events of category "stall" fill the gaps and are named by their reason.
struct TracedStep {
  const StepPlan* plan = nullptr;
  Timeline timeline;
};
struct TracedSteps {
  std::string name;
  std::vector<TracedStep> steps;
};
std::string ChromeTrace(const std::vector<TracedSteps>& processes);

}  // namespace strata::prefetch
