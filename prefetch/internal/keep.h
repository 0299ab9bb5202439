// Which blocks at home on nvme are worth a host slot of their own for the whole run.
#pragma once

#include <vector>

#include "prefetch/trace.h"

namespace strata::prefetch::internal {

// Those that save the most reads per byte first, and among equals those that a step needs first, up
// to `bytes` of slots.
std::vector<BlockId> BlocksWorthKeeping(const Trace& trace, uint64_t bytes);

}  // namespace strata::prefetch::internal
