// Kernels on an NVIDIA GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "aio/base/status.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

// For streams of the cuda device `gpu` (an index as CUDA counts). Without one, for planning: they
// say what workspace they need, on machines without a GPU and CUDA's libraries and in builds
// without CUDA, too (cuda_planning_kernels.h), and nothing else may be asked of them. kUnavailable
// where this build, or this machine, lacks what is needed: the message says what to do.
Result<std::unique_ptr<Kernels>> MakeCudaKernels(std::optional<uint32_t> gpu);

}  // namespace strata::engine
