// Stands in for the project's header of the same name, whose declaration only nvcc understands.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace strata::engine::cuda {

inline constexpr size_t kDynamicSharedAlignment = 256;

template <typename T>
T* DynamicShared() {
  return static_cast<T*>(fakes::cuda::SharedMemory());
}

}  // namespace strata::engine::cuda
