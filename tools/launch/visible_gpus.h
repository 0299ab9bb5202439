// Which GPU is which rank's, found without CUDA: who asks CUDA has started it.
#pragma once

#include <vector>

#include "aio/base/status.h"
#include "tiering/gpu_driver.h"

namespace strata::launch {

// The driver's GPUs as CUDA numbers them for a process with these values of CUDA_VISIBLE_DEVICES
// and CUDA_DEVICE_ORDER; nullptr: not set. As CUDA does, it stops before an entry that is no GPU.
// kUnimplemented where only CUDA knows: GPUs of several kinds in its own order, parts of one (MIG).
Result<std::vector<tiering::DriverGpu>> VisibleGpus(std::vector<tiering::DriverGpu> gpus,
                                                    const char* visible, const char* order);

}  // namespace strata::launch
