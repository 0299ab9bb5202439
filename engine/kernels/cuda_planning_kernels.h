// What CUDA kernels need, without CUDA: for plans made by builds that have none.
#pragma once

#include <memory>

#include "engine/kernels/kernels.h"

namespace strata::engine {

// Of any GPU: rows at once and workspaces as those of MakeCudaKernels(gpu). Whatever else is asked
// of them fails with kUnavailable.
std::unique_ptr<Kernels> MakeCudaPlanningKernels();

}  // namespace strata::engine
