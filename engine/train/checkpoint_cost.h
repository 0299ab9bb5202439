// What a checkpoint takes, as planned: bytes, the drive's time, and space.
#pragma once

#include <cstdint>

#include "engine/train/planning.h"

namespace strata::engine {

struct CheckpointCost {
  // Of state at home in memory, written behind the next step. None: all is at home on nvme, and a
  // commit is a flush and a small manifest.
  uint64_t bytes_behind = 0;
  double drive_s = 0;  // of writing them
  // Of that, what the drive is not idle for in a step anyway: by so much the step is longer.
  double wait_s = 0;
  // Space: what each kept checkpoint may pin, and what is there once more for the versions that a
  // step writes while the checkpoint before it is not valid yet.
  uint64_t kept_bytes = 0;
  uint64_t rewritten_bytes = 0;
};

// Of one rank of a compiled run.
CheckpointCost CheckpointCostOf(const PlannedRun& run);

}  // namespace strata::engine
