#include "engine/kernels/cuda/launch.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tiering/cuda_status.h"

namespace strata::engine::cuda {
namespace {

std::string KernelName([[maybe_unused]] const void* kernel) {
  const char* mangled = nullptr;
#if CUDART_VERSION >= 12030  // earlier ones do not tell
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess) mangled = nullptr;
#endif
  if (mangled == nullptr) return "a kernel";
  int error = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &error), &std::free);
  return error == 0 ? name.get() : mangled;
}

}  // namespace

Status internal::LaunchStatus(cudaError_t error, const void* kernel, const LaunchShape& shape) {
  if (error == cudaSuccess) return OkStatus();
  return tiering::CudaStatus(
      error, fmt::format("launch of {} with {}x{}x{} blocks of {}x{}x{} threads and {} "
                         "bytes of shared memory",
                         KernelName(kernel), shape.grid.x, shape.grid.y, shape.grid.z,
                         shape.block.x, shape.block.y, shape.block.z, shape.shared_bytes));
}

}  // namespace strata::engine::cuda
