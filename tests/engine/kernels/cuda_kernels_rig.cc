// For the emulator and for GPUs.
#include <utility>

#include "aio/base/units.h"
#include "engine/kernels/cuda_kernels.h"
#include "tests/engine/kernels/kernels_on_device.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/or_die.h"
#include "tests/require.h"
#include "tiering/cuda_device.h"

namespace strata::engine {
namespace {

// Of what tests call at once.
constexpr uint64_t kDeviceBytes = 128_MiB;

}  // namespace

std::string MissingForTestKernels() {
  const Status status = tiering::FindCudaGpus().status();
  return status.ok() || IsRequired("gpu") ? "" : status.message();
}

std::unique_ptr<Kernels> MakeTestKernels() {
  return std::make_unique<KernelsOnDevice>(OrDie(MakeCudaKernels(0)),
                                           OrDie(tiering::CreateCudaDevice(0, kDeviceBytes)));
}

std::vector<std::unique_ptr<Kernels>> MakeAllTestKernels() {
  std::vector<std::unique_ptr<Kernels>> all;
  all.push_back(MakeTestKernels());
  return all;
}

}  // namespace strata::engine
