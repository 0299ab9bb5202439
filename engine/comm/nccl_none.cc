// Stands in for nccl/ in a build without CUDA.
#include "engine/comm/internal/gpu_link.h"

namespace strata::engine {
namespace {

Status WithoutCuda() {
  return Unavailable(
      "this program was built without CUDA, so it has no collectives of GPUs: build it with "
      "-DSTRATA_CUDA=ON, or set [train] device = \"cpu\"");
}

}  // namespace

Result<std::unique_ptr<GpuLink>> LinkGpus(World*, Channel*, const GpuOptions&) {
  return WithoutCuda();
}

Status CopyOnGpu(const tiering::StreamContext&, std::span<std::byte>, std::span<const std::byte>) {
  return WithoutCuda();
}

}  // namespace strata::engine
