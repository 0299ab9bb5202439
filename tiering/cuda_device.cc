#include "tiering/cuda_device.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <utility>

#include "aio/base/units.h"
#include "tiering/cuda_status.h"
#include "tiering/gpu_driver.h"
#include "tiering/internal/cuda_stream.h"

namespace strata::tiering {
namespace {

constexpr uint32_t kLeastCapability = 80;

std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// Of the driver, which is what most often is not as it should be.
Status CheckDriver() {
  int driver = 0;
  int runtime = 0;
  STRATA_RETURN_IF_ERROR(CudaStatus(cudaRuntimeGetVersion(&runtime), "asking CUDA's version"));
  STRATA_RETURN_IF_ERROR(CudaStatus(cudaDriverGetVersion(&driver), "asking the driver's version"));
  if (driver == 0) {
    return Unavailable(
        "no NVIDIA driver (libcuda.so.1) is on this machine: install one if it has a GPU; in a "
        "container, start that with GPUs (docker run --gpus all)");
  }
  if (driver / 1000 < runtime / 1000) {
    return Unavailable(fmt::format(
        "the NVIDIA driver is for CUDA {} and this strata was built with CUDA {}: update the "
        "driver, or build strata with CUDA {}",
        VersionText(driver), VersionText(runtime), VersionText(driver)));
  }
  return OkStatus();
}

Result<uint32_t> CountGpus() {
  STRATA_RETURN_IF_ERROR(CheckDriver());
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return Unavailable(
        "the NVIDIA driver shows no GPU to this process: look at nvidia-smi and at "
        "CUDA_VISIBLE_DEVICES");
  }
  STRATA_RETURN_IF_ERROR(CudaStatus(error, "counting GPUs"));
  return static_cast<uint32_t>(count);
}

// As sysfs writes it, with small letters.
Result<std::string> PciBusId(int gpu) {
  std::string id(32, '\0');
  STRATA_RETURN_IF_ERROR(CudaStatus(
      cudaDeviceGetPCIBusId(id.data(), static_cast<int>(id.size()), gpu), "asking for a PCI bus"));
  id.resize(id.find('\0'));
  std::transform(id.begin(), id.end(), id.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return id;
}

Result<CudaGpu> DescribeGpu(uint32_t index) {
  const int gpu = static_cast<int>(index);
  cudaDeviceProp properties = {};
  STRATA_RETURN_IF_ERROR(CudaStatus(cudaGetDeviceProperties(&properties, gpu),
                                    fmt::format("cuda:{}: asking what it is", index)));
  STRATA_ASSIGN_OR_RETURN(std::string pci_bus_id, PciBusId(gpu));
  const std::optional<uint32_t> numa_node = NumaNodeOfPciDevice(pci_bus_id);
  return CudaGpu{
      .index = index,
      .name = properties.name,
      .memory_bytes = properties.totalGlobalMem,
      .compute_capability = static_cast<uint32_t>(properties.major * 10 + properties.minor),
      .pci_bus_id = std::move(pci_bus_id),
      .numa_node = numa_node};
}

class Registration final : public HostRegistration {
 public:
  Registration(int gpu, void* memory) : gpu_(gpu), memory_(memory) {}
  ~Registration() override {
    (void)cudaSetDevice(gpu_);
    (void)cudaHostUnregister(memory_);
  }

 private:
  const int gpu_;
  void* const memory_;
};

struct FreeOnGpu {
  void operator()(void* memory) const {
    (void)cudaSetDevice(gpu);
    (void)cudaFree(memory);
  }
  int gpu = 0;
};
using GpuMemory = std::unique_ptr<void, FreeOnGpu>;

class CudaDevice final : public Device {
 public:
  CudaDevice(CudaGpu gpu, GpuMemory memory, uint64_t budget_bytes,
             std::shared_ptr<CudaEvents> events)
      : gpu_(std::move(gpu)),
        memory_(std::move(memory)),
        budget_bytes_(budget_bytes),
        events_(std::move(events)) {}
  ~CudaDevice() override { STRATA_CHECK(num_streams_.load() == 0); }

  std::string name() const override { return fmt::format("cuda:{}", gpu_.index); }
  std::span<std::byte> memory() const override {
    return {static_cast<std::byte*>(memory_.get()), budget_bytes_};
  }
  int memory_fd() const override { return -1; }
  std::optional<uint32_t> numa_node() const override { return gpu_.numa_node; }

  Result<std::unique_ptr<HostRegistration>> RegisterHostMemory(
      std::span<std::byte> memory) override {
    cudaError_t error = cudaSetDevice(static_cast<int>(gpu_.index));
    if (error == cudaSuccess)
      error = cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable);
    STRATA_RETURN_IF_ERROR(CudaStatus(
        error, fmt::format("{}: pinning {} of host memory", name(), FormatBytes(memory.size()))));
    return std::unique_ptr<HostRegistration>(
        std::make_unique<Registration>(static_cast<int>(gpu_.index), memory.data()));
  }

  std::unique_ptr<DeviceStream> CreateStream(const std::string& name) override {
    return std::make_unique<CudaStream>(gpu_.index, name, memory(), events_, &num_streams_);
  }

 private:
  const CudaGpu gpu_;
  const GpuMemory memory_;
  const uint64_t budget_bytes_;
  const std::shared_ptr<CudaEvents> events_;  // shared with events, which may outlive the device
  std::atomic<int> num_streams_ = 0;
};

// On the current GPU.
Result<GpuMemory> Allocate(const CudaGpu& gpu, uint64_t budget_bytes) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  STRATA_RETURN_IF_ERROR(
      CudaStatus(cudaMemGetInfo(&free_bytes, &total_bytes), "asking how much memory is free"));
  const uint64_t most = free_bytes - std::min<uint64_t>(free_bytes, kCudaReserveBytes);
  void* memory = nullptr;
  cudaError_t error = cudaErrorMemoryAllocation;
  if (budget_bytes <= most) error = cudaMalloc(&memory, budget_bytes);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // it is told here
    return ResourceExhausted(fmt::format(
        "{} of device memory cannot be had: of the {} of {}, {} are free, and CUDA itself needs {} "
        "of those; set [memory] device = \"{}MiB\" or less, or end what else uses the GPU "
        "(nvidia-smi tells)",
        FormatBytes(budget_bytes), FormatBytes(total_bytes), gpu.name, FormatBytes(free_bytes),
        FormatBytes(kCudaReserveBytes), most >> 20));
  }
  STRATA_RETURN_IF_ERROR(CudaStatus(error, "allocating device memory"));
  return GpuMemory(memory, FreeOnGpu{static_cast<int>(gpu.index)});
}

Result<std::unique_ptr<Device>> Create(uint32_t index, uint64_t budget_bytes) {
  STRATA_ASSIGN_OR_RETURN(const uint32_t count, CountGpus());
  if (index >= count) {
    return Unavailable(fmt::format(
        "there is no such GPU: CUDA shows this process {}, cuda:0{}; CUDA_VISIBLE_DEVICES may hide "
        "others",
        count, count > 1 ? fmt::format(" to cuda:{}", count - 1) : ""));
  }
  STRATA_ASSIGN_OR_RETURN(CudaGpu gpu, DescribeGpu(index));
  if (gpu.compute_capability < kLeastCapability) {
    return Unavailable(
        fmt::format("{} has compute capability {}.{}, and strata needs 8.0 (Ampere) "
                    "or newer: train on another GPU or on [train] device = \"cpu\"",
                    gpu.name, gpu.compute_capability / 10, gpu.compute_capability % 10));
  }
  STRATA_RETURN_IF_ERROR(CudaStatus(cudaSetDevice(static_cast<int>(index)), "starting CUDA"));
  // Threads that wait for streams sleep: the cores are the optimizer's.
  STRATA_RETURN_IF_ERROR(
      CudaStatus(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync), "cudaSetDeviceFlags"));
  STRATA_ASSIGN_OR_RETURN(std::shared_ptr<CudaEvents> events,
                          CudaEvents::Create(static_cast<int>(index)));
  STRATA_ASSIGN_OR_RETURN(GpuMemory memory, Allocate(gpu, budget_bytes));
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(std::move(gpu), std::move(memory),
                                                              budget_bytes, std::move(events)));
}

}  // namespace

Result<std::vector<CudaGpu>> FindCudaGpus() {
  STRATA_ASSIGN_OR_RETURN(const uint32_t count, CountGpus());
  std::vector<CudaGpu> gpus;
  for (uint32_t index = 0; index < count; ++index) {
    STRATA_ASSIGN_OR_RETURN(gpus.emplace_back(), DescribeGpu(index));
  }
  return gpus;
}

Result<std::unique_ptr<Device>> CreateCudaDevice(uint32_t gpu, uint64_t budget_bytes) {
  Result<std::unique_ptr<Device>> device = Create(gpu, budget_bytes);
  if (!device.ok()) return device.status().With(fmt::format("device cuda:{}", gpu));
  return device;
}

}  // namespace strata::tiering
