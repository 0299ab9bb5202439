// What CUDA's runtime says, as a Status. Only for sources that are compiled with CUDA.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <string_view>

#include "aio/base/status.h"

namespace strata::tiering {

// "what: CUDA's words (CUDA's name)". kResourceExhausted of memory that cannot be had, kUnavailable
// where there is no GPU or driver, else kInternal.
inline Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return OkStatus();
  std::string message =
      fmt::format("{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
  switch (error) {
    case cudaErrorMemoryAllocation:
      return ResourceExhausted(std::move(message));
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
      return Unavailable(std::move(message));
    default:
      return Internal(std::move(message));
  }
}

}  // namespace strata::tiering
