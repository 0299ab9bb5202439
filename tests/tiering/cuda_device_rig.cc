// For the emulator and for GPUs.
#include <cuda_runtime_api.h>

#include <utility>

#include "tests/require.h"
#include "tests/tiering/device_rig.h"
#include "tiering/cuda_device.h"
#include "tiering/cuda_status.h"

namespace strata::tiering {

const char* const kTestDeviceName = "cuda:0";
const std::chrono::microseconds kTestClockError{1000};
const bool kHostFunctionsRunBesideEachOther = STRATA_EMULATED_CUDA;

std::string MissingForTestDevice() {
  const Status status = FindCudaGpus().status();
  return status.ok() || IsRequired("gpu") ? "" : status.message();
}

Result<std::unique_ptr<Device>> CreateTestDevice(uint64_t budget_bytes) {
  return CreateCudaDevice(0, budget_bytes);
}

Status RunOnTestStream(const StreamContext& context, std::function<void()> function) {
  auto run = [](void* data) {
    const std::unique_ptr<std::function<void()>> owned(static_cast<std::function<void()>*>(data));
    (*owned)();
  };
  auto owned = std::make_unique<std::function<void()>>(std::move(function));
  const cudaError_t error =
      cudaLaunchHostFunc(static_cast<cudaStream_t>(context.native_stream), run, owned.get());
  if (error == cudaSuccess) (void)owned.release();  // the stream's now
  return CudaStatus(error, "cudaLaunchHostFunc");
}

}  // namespace strata::tiering
