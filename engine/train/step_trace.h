// The timelines of a run's first steps, for trace.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/train/planning.h"
#include "engine/zero/step_program.h"
#include "prefetch/timeline.h"

namespace strata::engine {

// Thread-compatible.
class StepTrace {
 public:
  explicit StepTrace(uint64_t max_steps) : max_steps_(max_steps) {}

  // Those beyond `max_steps` are let go.
  void Add(StepKind kind, prefetch::Timeline timeline) {
    if (steps_.size() < max_steps_) steps_.emplace_back(kind, std::move(timeline));
  }
  bool empty() const { return steps_.empty(); }
  // Chrome trace events: below each step what was expected of one of its kind.
  std::string ToJson(const PlannedRun& run) const;

 private:
  uint64_t max_steps_;
  std::vector<std::pair<StepKind, prefetch::Timeline>> steps_;
};

}  // namespace strata::engine
