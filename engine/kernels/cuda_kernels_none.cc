#include "engine/kernels/cuda_kernels.h"
#include "engine/kernels/cuda_planning_kernels.h"

namespace strata::engine {

Result<std::unique_ptr<Kernels>> MakeCudaKernels(std::optional<uint32_t> gpu) {
  if (!gpu) return MakeCudaPlanningKernels();
  return Unavailable(
      "this strata was built without CUDA kernels: build it where nvcc (CUDA 12.0 or newer) is, or "
      "choose [train] device = \"cpu\"");
}

}  // namespace strata::engine
