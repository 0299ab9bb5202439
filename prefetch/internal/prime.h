// Loads what a plan expects to find in memory when its first step starts.
#pragma once

#include "aio/base/status.h"
#include "prefetch/executor.h"
#include "prefetch/internal/node_memory.h"

namespace strata::prefetch {

// Reads the cached residents from the store into their slots, those of the device tier by way of
// host memory that no block at home there occupies. Blocks.
Status PrimeResidents(const StepPlan& plan, const ExecutorParts& parts, const NodeMemory& memory,
                      uint32_t reads_in_flight);

}  // namespace strata::prefetch
