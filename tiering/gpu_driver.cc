#include "tiering/gpu_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

#include "aio/base/dynamic_library.h"

namespace strata::tiering {
namespace {

constexpr int kSuccess = 0;
constexpr unsigned kMostNvlinks = 18;
constexpr int kEnabled = 1;

Status NvmlStatus(const NvmlFunctions& nvml, int error, std::string_view what) {
  if (error == kSuccess) return OkStatus();
  return Unavailable(fmt::format("{}: the NVIDIA driver says: {}", what, nvml.error_string(error)));
}

// What a function without an argument but the GPU says.
template <typename T, typename Function>
std::optional<T> Ask(Function* function, NvmlFunctions::Device device) {
  T value{};
  if (function == nullptr || function(device, &value) != kSuccess) return std::nullopt;
  return value;
}

template <typename Function>
std::optional<bool> AskSwitch(Function* function, NvmlFunctions::Device device) {
  const std::optional<int> state = Ask<int>(function, device);
  if (!state) return std::nullopt;
  return *state == kEnabled;
}

// "00000000:1B:00.0" as sysfs has it: "0000:1b:00.0".
std::string SysfsBusId(std::string id) {
  constexpr size_t kDomainDigits = 4;
  const size_t colon = id.find(':');
  if (colon != std::string::npos && colon > kDomainDigits) id.erase(0, colon - kDomainDigits);
  std::ranges::transform(id, id.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return id;
}

uint32_t CountNvlinks(const NvmlFunctions& nvml, NvmlFunctions::Device device) {
  uint32_t count = 0;
  for (unsigned link = 0; nvml.nvlink_state != nullptr && link < kMostNvlinks; ++link) {
    int state = 0;
    if (nvml.nvlink_state(device, link, &state) == kSuccess && state == kEnabled) ++count;
  }
  return count;
}

std::string AskUuid(const NvmlFunctions& nvml, NvmlFunctions::Device device) {
  std::array<char, 96> uuid{};
  if (nvml.uuid == nullptr || nvml.uuid(device, uuid.data(), unsigned{uuid.size()}) != kSuccess)
    return {};
  return uuid.data();
}

Result<DriverGpu> AskGpu(const NvmlFunctions& nvml, unsigned index) {
  const std::string what = fmt::format("GPU {}", index);
  NvmlFunctions::Device device = nullptr;
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.device(index, &device), what));
  std::array<char, 96> name{};
  STRATA_RETURN_IF_ERROR(
      NvmlStatus(nvml, nvml.name(device, name.data(), unsigned{name.size()}), what));
  NvmlPciInfo pci{};
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.pci_info(device, &pci), what));
  NvmlMemory memory{};
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.memory(device, &memory), what));
  int major = 0, minor = 0;
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.compute_capability(device, &major, &minor), what));
  DriverGpu gpu{.index = index,
                .name = name.data(),
                .uuid = AskUuid(nvml, device),
                .pci_bus_id = SysfsBusId(pci.bus_id),
                .numa_node = NumaNodeOfPciDevice(SysfsBusId(pci.bus_id)),
                .memory_bytes = memory.total,
                .free_bytes = memory.free,
                .compute_capability = static_cast<uint32_t>(major * 10 + minor),
                .link_generation = Ask<unsigned>(nvml.link_generation, device),
                .max_link_generation = Ask<unsigned>(nvml.max_link_generation, device),
                .link_width = Ask<unsigned>(nvml.link_width, device),
                .max_link_width = Ask<unsigned>(nvml.max_link_width, device),
                .num_nvlinks = CountNvlinks(nvml, device),
                .is_persistent = AskSwitch(nvml.persistence, device),
                .has_ecc = std::nullopt};
  int current = 0, pending = 0;
  if (nvml.ecc != nullptr && nvml.ecc(device, &current, &pending) == kSuccess)
    gpu.has_ecc = current == kEnabled;
  return gpu;
}

Result<GpuDriver> AskStarted(const NvmlFunctions& nvml) {
  GpuDriver driver;
  std::array<char, 96> version{};
  STRATA_RETURN_IF_ERROR(
      NvmlStatus(nvml, nvml.driver_version(version.data(), unsigned{version.size()}), "version"));
  driver.version = version.data();
  int cuda = 0;
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.cuda_version(&cuda), "CUDA's version"));
  driver.cuda_version = static_cast<uint32_t>(cuda);
  unsigned count = 0;
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.count(&count), "counting GPUs"));
  for (unsigned index = 0; index < count; ++index) {
    STRATA_ASSIGN_OR_RETURN(driver.gpus.emplace_back(), AskGpu(nvml, index));
  }
  return driver;
}

}  // namespace

Result<NvmlFunctions> LoadNvml() {
  // The second is where Windows' subsystem for Linux has it.
  Result<DynamicLibrary> library = DynamicLibrary::Load("libnvidia-ml.so.1");
  if (!library.ok()) library = DynamicLibrary::Load("/usr/lib/wsl/lib/libnvidia-ml.so.1");
  if (!library.ok())
    return Unavailable("no NVIDIA driver is on this machine (there is no libnvidia-ml.so.1)");
  NvmlFunctions nvml;
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlInit_v2", &nvml.init));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlShutdown", &nvml.shutdown));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlErrorString", &nvml.error_string));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlSystemGetDriverVersion", &nvml.driver_version));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlSystemGetCudaDriverVersion", &nvml.cuda_version));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlDeviceGetCount_v2", &nvml.count));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlDeviceGetHandleByIndex_v2", &nvml.device));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlDeviceGetName", &nvml.name));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlDeviceGetPciInfo_v3", &nvml.pci_info));
  STRATA_RETURN_IF_ERROR(library->Bind("nvmlDeviceGetMemoryInfo", &nvml.memory));
  STRATA_RETURN_IF_ERROR(
      library->Bind("nvmlDeviceGetCudaComputeCapability", &nvml.compute_capability));
  // Without these there is less to say.
  (void)library->Bind("nvmlDeviceGetUUID", &nvml.uuid);
  (void)library->Bind("nvmlDeviceGetCurrPcieLinkGeneration", &nvml.link_generation);
  (void)library->Bind("nvmlDeviceGetMaxPcieLinkGeneration", &nvml.max_link_generation);
  (void)library->Bind("nvmlDeviceGetCurrPcieLinkWidth", &nvml.link_width);
  (void)library->Bind("nvmlDeviceGetMaxPcieLinkWidth", &nvml.max_link_width);
  (void)library->Bind("nvmlDeviceGetNvLinkState", &nvml.nvlink_state);
  (void)library->Bind("nvmlDeviceGetPersistenceMode", &nvml.persistence);
  (void)library->Bind("nvmlDeviceGetEccMode", &nvml.ecc);
  return nvml;
}

Result<GpuDriver> AskGpuDriver(const NvmlFunctions& nvml) {
  STRATA_RETURN_IF_ERROR(NvmlStatus(nvml, nvml.init(), "starting"));
  Result<GpuDriver> driver = AskStarted(nvml);
  (void)nvml.shutdown();
  return driver;
}

std::optional<uint32_t> NumaNodeOfPciDevice(const std::string& pci_bus_id,
                                            const std::string& sysfs) {
  std::ifstream file(fmt::format("{}/bus/pci/devices/{}/numa_node", sysfs, pci_bus_id));
  int node = -1;
  if (file >> node && node >= 0) return static_cast<uint32_t>(node);
  return std::nullopt;
}

}  // namespace strata::tiering
