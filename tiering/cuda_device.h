// NVIDIA GPUs as devices, through the CUDA runtime.
//
// A build without CUDA has these functions, too: they return kUnavailable and say what to do.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tiering/device.h"

namespace strata::tiering {

struct CudaGpu {
  uint32_t index = 0;  // as CUDA counts: what CUDA_VISIBLE_DEVICES hides has none
  std::string name;    // "NVIDIA H100 80GB HBM3"
  uint64_t memory_bytes = 0;
  uint32_t compute_capability = 0;    // 90 is 9.0
  std::string pci_bus_id;             // "0000:1b:00.0"
  std::optional<uint32_t> numa_node;  // as the OS counts, where the machine tells
};

// Those that this process may use, at least one. kUnavailable where there is none: the message says
// whether the driver, the GPU or the build is what is missing.
Result<std::vector<CudaGpu>> FindCudaGpus();

// What a GPU's memory must have left beside a budget: CUDA loads kernels when they are first used,
// and libraries have buffers of their own. A step never asks for memory, and it shall not fail for
// want of it.
inline constexpr uint64_t kCudaReserveBytes = 512ULL << 20;

// GPU `gpu` with `budget_bytes` of its memory, which are taken in one piece. Streams begin in CUDA
// what they are given at once and do not wait for each other; waiting for an event sleeps. What
// fails on the GPU (kInternal: a kernel's illegal access, say) is final: every stream fails, and
// the process must end.
Result<std::unique_ptr<Device>> CreateCudaDevice(uint32_t gpu, uint64_t budget_bytes);

}  // namespace strata::tiering
