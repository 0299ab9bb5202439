#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "tiering/cuda_device.h"
#include "tools/probes.h"

namespace strata::tools {

std::string DescribeCuda() {
  int version = 0;
  if (cudaRuntimeGetVersion(&version) != cudaSuccess) return "CUDA that does not say its version";
  const auto gpus = tiering::FindCudaGpus();
  return fmt::format("CUDA runtime {}.{}: {}", version / 1000, version % 1000 / 10,
                     gpus.ok() ? fmt::format("{} GPU(s)", gpus->size()) : gpus.status().message());
}

bool HasCuda() { return true; }

}  // namespace strata::tools
