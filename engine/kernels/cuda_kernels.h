// Kernels on an NVIDIA GPU.
#pragma once

#include <cstdint>
#include <memory>

#include "aio/base/status.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

// For streams of the cuda device `gpu` (an index as CUDA counts). kUnavailable where this build, or
// this machine, has no CUDA: the message says what to do.
Result<std::unique_ptr<Kernels>> MakeCudaKernels(uint32_t gpu);

}  // namespace strata::engine
