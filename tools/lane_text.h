// What each lane of a step did and what it waited for, as a table.
#pragma once

#include <array>
#include <string>

#include "prefetch/timeline.h"

namespace strata::tools {

// One row per lane that had work: busy, stalled with each reason that takes at least a hundredth of
// the step, idle after its last work. Nothing for a step of no length.
std::string LaneTable(const std::array<prefetch::LaneUse, prefetch::kNumLanes>& lanes,
                      double step_s);

}  // namespace strata::tools
