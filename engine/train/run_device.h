// What a run's steps are computed on: from [train] device to a device and its kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "aio/base/status.h"
#include "aio/io_buffer.h"
#include "engine/config/device_choice.h"
#include "engine/kernels/kernels.h"
#include "engine/optimizer/device_adam.h"
#include "tiering/device.h"

namespace strata::engine {

// A rank among those of its machine.
struct LocalRank {
  uint32_t rank = 0;
  uint32_t num_ranks = 1;
};

struct ChosenDevice {
  DeviceChoice device;  // kCpu, or kCuda with its GPU
  std::string reason;   // for people: "NVIDIA H100 80GB HBM3", "no NVIDIA driver ..."
  // There is a GPU, and "auto" does not take it: the reason is worth a warning.
  bool passes_over_gpu = false;
};

// What "auto" and "cuda" mean on this machine, for this rank. kUnavailable when the choice is a GPU
// that is not there, or more ranks than GPUs. A GPU that is asked for is looked at no further than
// that: what else is missing, making its device and kernels will say.
Result<ChosenDevice> ChooseDevice(const DeviceChoice& choice, const LocalRank& local = {});

// Of a chosen device; the cpu device's memory is shared as told.
Result<std::unique_ptr<tiering::Device>> CreateDevice(
    const DeviceChoice& chosen, uint64_t budget_bytes,
    aio::Sharing sharing = aio::Sharing::kPrivate);
// kAuto is kCpu here; kCuda without a GPU is for planning (MakeCudaKernels()).
Result<std::unique_ptr<Kernels>> MakeKernels(const DeviceChoice& device, uint32_t threads);
// Of kCuda without a GPU, null.
Result<std::unique_ptr<DeviceAdam>> MakeDeviceAdam(const DeviceChoice& device, uint32_t threads);

}  // namespace strata::engine
