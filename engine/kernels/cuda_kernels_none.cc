#include <string>

#include "engine/kernels/cuda_kernels.h"

namespace strata::engine {

Result<std::unique_ptr<Kernels>> MakeCudaKernels(uint32_t gpu) {
  return Unavailable(
      "device cuda:" + std::to_string(gpu) +
      ": this strata was built without CUDA kernels. Build it where nvcc (CUDA 12.0 or "
      "newer) is, or train on train.device = \"cpu\"");
}

}  // namespace strata::engine
