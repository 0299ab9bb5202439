// How kernels are launched: on a stream of the device, with a Status that names the kernel.
#pragma once

#include <cuda_runtime.h>

#include "aio/base/status.h"
#include "tiering/device.h"

namespace strata::engine::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // of DynamicShared()
};

inline cudaStream_t NativeStream(const tiering::StreamContext& stream) {
  return static_cast<cudaStream_t>(stream.native_stream);
}

namespace internal {
// More dynamic shared memory than this has to be asked for, kernel by kernel.
inline constexpr size_t kSharedBytesWithoutAsking = 48 * 1024;
Status LaunchStatus(cudaError_t error, const void* kernel, const LaunchShape& shape);
}  // namespace internal

// Enqueues; what goes wrong on the device shows at a later event of the stream. An empty grid is no
// work. Arguments are converted to the kernel's parameters and copied.
template <typename... Parameters, typename... Arguments>
Status Launch(void (*kernel)(Parameters...), const LaunchShape& shape,
              const tiering::StreamContext& stream, Arguments&&... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return OkStatus();
  if (shape.shared_bytes > internal::kSharedBytesWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(shape.shared_bytes));
    if (error != cudaSuccess)
      return internal::LaunchStatus(error, reinterpret_cast<const void*>(kernel), shape);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = NativeStream(stream);
  const cudaError_t error =
      cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  return internal::LaunchStatus(error, reinterpret_cast<const void*>(kernel), shape);
}

}  // namespace strata::engine::cuda
