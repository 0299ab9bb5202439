// The shared memory whose size the launch says (LaunchShape::shared_bytes).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace strata::engine::cuda {

inline constexpr size_t kDynamicSharedAlignment = 256;

// So aligned; what is in it at the start of a block is undefined. One array per block,
// whatever T: a kernel that wants several cuts them out of it.
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(256) unsigned char strata_dynamic_shared[];
  return reinterpret_cast<T*>(strata_dynamic_shared);
}

}  // namespace strata::engine::cuda
