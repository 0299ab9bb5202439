#include "tiering/cuda_device.h"

namespace strata::tiering {
namespace {

Status NoCuda() {
  return Unavailable(
      "this strata was built without CUDA: build it where nvcc (CUDA 12.0 or newer) is, or train "
      "on "
      "[train] device = \"cpu\"");
}

}  // namespace

Result<std::vector<CudaGpu>> FindCudaGpus() { return NoCuda(); }

Result<std::unique_ptr<Device>> CreateCudaDevice(uint32_t, uint64_t) { return NoCuda(); }

}  // namespace strata::tiering
