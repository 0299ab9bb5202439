#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "tools/probes.h"

namespace strata::tools {

std::string DescribeCuda() {
  int version = 0;
  int count = 0;
  cudaError_t error = cudaRuntimeGetVersion(&version);
  if (error == cudaSuccess) error = cudaGetDeviceCount(&count);
  std::string runtime = fmt::format("CUDA runtime {}.{}", version / 1000, version % 1000 / 10);
  if (error != cudaSuccess) return fmt::format("{}: {}", runtime, cudaGetErrorString(error));
  return fmt::format("{}: {} GPU(s) found; training uses the cpu device in this version", runtime,
                     count);
}

}  // namespace strata::tools
