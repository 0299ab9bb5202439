// What ranks tell each other before they use NCCL together, so that one that cannot is an error of
// all, and none waits for it.
#pragma once

#include <string>

#include "engine/comm/internal/world.h"
#include "engine/comm/nccl/nccl_functions.h"

namespace strata::engine {

// A rank's own part.
struct GpuFacts {
  int nccl_version = 0;
  std::string bus_id = {};  // of the GPU: "0000:17:00.0"
  NcclUniqueId id = {};     // rank 0's counts
};

// Called by all ranks, each with its facts or why it has none. Gives rank 0's. kFailedPrecondition
// where two ranks have one GPU, or ranks have different versions of NCCL.
Result<GpuFacts> MeetOnGpus(const World& world, uint32_t machine, Channel& control,
                            const Result<GpuFacts>& mine);

}  // namespace strata::engine
