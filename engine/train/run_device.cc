#include "engine/train/run_device.h"

#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "engine/kernels/cpu_kernels.h"
#include "engine/kernels/cuda_kernels.h"
#include "tiering/cuda_device.h"
#include "tiering/cuda_libraries.h"

namespace strata::engine {
namespace {

using Kind = DeviceChoice::Kind;

// Rank N of a machine takes GPU N. Where the launcher shows each rank only its own, that is 0.
// Where there are too few, no rank has one: all are to compute on devices of one kind.
Result<uint32_t> GpuOf(const LocalRank& local, size_t num_gpus) {
  if (local.num_ranks <= num_gpus) return local.rank;
  if (num_gpus == 1 && std::getenv("CUDA_VISIBLE_DEVICES") != nullptr) return 0;
  return Unavailable(
      fmt::format("{} ranks on a machine where CUDA shows {} GPU(s): start at most one rank per "
                  "GPU (strata launch --nproc-per-node {}), or train on [train] device = \"cpu\"",
                  local.num_ranks, num_gpus, num_gpus));
}

Result<ChosenDevice> ChooseCuda(const DeviceChoice& choice, const LocalRank& local) {
  STRATA_ASSIGN_OR_RETURN(const std::vector<tiering::CudaGpu> gpus, tiering::FindCudaGpus());
  uint32_t gpu = choice.gpu.value_or(0);
  if (!choice.gpu) {
    STRATA_ASSIGN_OR_RETURN(gpu, GpuOf(local, gpus.size()));
  }
  if (gpu >= gpus.size()) {
    return Unavailable(
        fmt::format("CUDA shows this process {} GPU(s), cuda:0 and so on; CUDA_VISIBLE_DEVICES may "
                    "hide others",
                    gpus.size()));
  }
  return ChosenDevice{{Kind::kCuda, gpu}, gpus[gpu].name};
}

// A GPU that lacks something is passed over, and the reason says so.
ChosenDevice ChooseAny(const LocalRank& local) {
  Result<ChosenDevice> cuda = ChooseCuda({Kind::kCuda}, local);
  if (!cuda.ok()) return {{Kind::kCpu}, cuda.status().message(), tiering::FindCudaGpus().ok()};
  const Status products = tiering::LoadCudaLibrary(tiering::kCublasLt).status();
  if (!products.ok()) {
    return {
        {Kind::kCpu}, fmt::format("{} is not used: {}", cuda->reason, products.message()), true};
  }
  return *cuda;
}

}  // namespace

Result<ChosenDevice> ChooseDevice(const DeviceChoice& choice, const LocalRank& local) {
  switch (choice.kind) {
    case Kind::kAuto:
      return ChooseAny(local);
    case Kind::kCpu:
      return ChosenDevice{{Kind::kCpu}, "[train] device = \"cpu\""};
    case Kind::kCuda:
      break;
  }
  Result<ChosenDevice> chosen = ChooseCuda(choice, local);
  if (!chosen.ok())
    return chosen.status().With(fmt::format("[train] device = \"{}\"", ToText(choice)));
  return chosen;
}

Result<std::unique_ptr<tiering::Device>> CreateDevice(const DeviceChoice& chosen,
                                                      uint64_t budget_bytes, aio::Sharing sharing) {
  if (chosen.kind != Kind::kCuda) return tiering::CreateCpuDevice(budget_bytes, sharing);
  STRATA_CHECK(chosen.gpu.has_value());
  return tiering::CreateCudaDevice(*chosen.gpu, budget_bytes);
}

Result<std::unique_ptr<Kernels>> MakeKernels(const DeviceChoice& device, uint32_t threads) {
  return device.kind == Kind::kCuda ? MakeCudaKernels(device.gpu) : MakeCpuKernels(threads);
}

Result<std::unique_ptr<DeviceAdam>> MakeDeviceAdam(const DeviceChoice& device, uint32_t threads) {
  if (device.kind != Kind::kCuda) return MakeCpuDeviceAdam(threads);
  return device.gpu ? MakeCudaAdam() : std::unique_ptr<DeviceAdam>();
}

}  // namespace strata::engine
