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
  // Reason: what the next node waited for last. The name of a lane ("nvme-read"), or "start".
  std::map<std::string, double> stalled_s;
};
std::array<LaneUse, kNumLanes> UseOf(const StepPlan& plan, const Timeline& timeline);

// The least time the step could take (DESIGN.md §7): max over resources of the work put on it
// divided by its rate alone. Resources: nvme, h2d, d2h, compute, comm, cpu; on a device that shares
// the cores the last five and the checksums are one: cores.
struct Bound {
  double seconds = 0;
  std::string resource;
  std::map<std::string, double> seconds_by_resource;
};
Bound BoundOf(const StepPlan& plan, const Hardware& hardware);

// Chrome trace event JSON, as Perfetto and chrome://tracing read it: one process per entry (say
// "measured" and "simulated"), one track per lane, steps one after the other. Each event's args
// hold node, bytes and what it waited for.
struct NamedTimelines {
  std::string name;
  std::vector<Timeline> steps;
};
std::string ChromeTrace(const StepPlan& plan, const std::vector<NamedTimelines>& processes);

}  // namespace strata::prefetch
