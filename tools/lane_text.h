// What each lane of a step did and what it waited for, as a table.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>

#include "prefetch/timeline.h"

namespace strata::tools {

// One row per lane that had work: busy, stalled with each reason that takes at least a hundredth of
// the step, idle after its last work. Nothing for a step of no length.
std::string LaneTable(const std::array<prefetch::LaneUse, prefetch::kNumLanes>& lanes,
                      double step_s);

// {"nvme-read": {"busy_s", "idle_s", "stalled_s": {reason: seconds}}, ...}, as in metrics.jsonl.
nlohmann::ordered_json LaneJson(const std::array<prefetch::LaneUse, prefetch::kNumLanes>& lanes);

}  // namespace strata::tools
