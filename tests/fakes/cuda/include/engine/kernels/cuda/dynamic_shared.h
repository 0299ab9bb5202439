// Stands in for the project's header of the same name, whose declaration only nvcc understands.
#pragma once

#include <cuda_runtime.h>

namespace strata::engine::cuda {

template <typename T>
T* DynamicShared() {
  return static_cast<T*>(fakes::cuda::SharedMemory());
}

}  // namespace strata::engine::cuda
