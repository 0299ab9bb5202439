// Measures how fast a run's operations are, with no transfers beside them.
#pragma once

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/train/planning.h"
#include "prefetch/hardware.h"
#include "tiering/arena.h"
#include "tiering/device.h"

namespace strata::engine {

// Does the first few operations of each kind in the order and the memory of the run's plan, again
// and again, with made-up numbers: so what an operation finds in the caches is what it would find
// in a step. Fills `rates` for each kind but those of a few bytes, and the defaults for what a kind
// that is missing goes by. Overwrites device and host memory. Called by all ranks, which do it
// together, collectives included; those need other ranks, and are not measured by one alone.
Status MeasureOps(const PlannedRun& run, tiering::Device& device, const tiering::Arena& host,
                  Communicator& communicator, prefetch::Hardware& hardware);

}  // namespace strata::engine
