// What the ranks of this machine should be near: the GPUs they take, the drives they use.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tiering/gpu_driver.h"
#include "tools/launch/binding.h"
#include "tools/launch/job.h"

namespace strata::launch {

// What a rank's command says of what it runs on.
struct RunNeeds {
  bool on_gpus = true;               // where there are some
  std::optional<uint32_t> gpu = {};  // the one for all ranks, as CUDA counts; none: each its own
  std::vector<std::string> nvme_paths = {};  // need not be there yet
  uint64_t threads = 0;                      // that a rank computes with; 0: as many as cores
};

// Reads them off a rank's command, program and arguments, of a job of so many ranks. What it does
// not know, or cannot read, has RunNeeds{}.
using ReadRunNeeds =
    std::function<RunNeeds(const std::vector<std::string>& command, uint32_t world_size)>;

// Of `node`'s slots. `gpus` are the driver's; an error of it where there are none, or it is not
// asked. CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER are looked up in `environment`.
std::vector<Wish> GpuWishes(const NodeSlots& node, const RunNeeds& needs,
                            const Result<std::vector<tiering::DriverGpu>>& gpus,
                            const Environment& environment);

// The drives below paths, of which the ends may not be there yet, as far as sysfs tells their node.
std::vector<NearDrive> NearDrivesBelow(const std::vector<std::string>& paths);

// Asks driver and sysfs, and CUDA nothing.
Wishes WishesHere(const NodeSlots& node, const RunNeeds& needs, const Environment& environment);

}  // namespace strata::launch
