// Adam where the model computes: on the device, in the order of a stream.
//
// The same pass as AdamStep() (adam.h), with the same bits: each of its operations is one of IEEE
// 754, rounded once, on the host's cores and on a GPU.
#pragma once

#include <cstdint>
#include <memory>

#include "aio/base/status.h"
#include "engine/kernels/thread_pool.h"
#include "engine/optimizer/adam.h"
#include "tiering/device.h"

namespace strata::engine {

// One call at a time.
class DeviceAdam {
 public:
  virtual ~DeviceAdam() = default;

  // Enqueues the update of `slices`, which are in device memory. `coefficient` (fp64, in device
  // memory) multiplies the gradients in place of scalars.gradient_scale; if it is not a number
  // nothing is applied, and 16-bit weights that the format fp32 overwrites become what their
  // masters are. Null: there is none.
  virtual Status Step(const tiering::StreamContext& stream, const AdamScalars& scalars,
                      const AdamSlices& slices, const double* coefficient) = 0;
};

// Of the cpu device: with threads of its own.
Result<std::unique_ptr<DeviceAdam>> MakeCpuDeviceAdam(uint32_t num_threads);

// Of a cuda device. kUnavailable where this build has no CUDA.
Result<std::unique_ptr<DeviceAdam>> MakeCudaAdam();

// What an update that is not applied leaves in 16-bit weights that it overwrites without having
// been given their old values (format fp32): what their masters have had all along.
void KeepWeights(const AdamSlices& slices);

}  // namespace strata::engine
