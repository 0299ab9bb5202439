// What the NVIDIA driver tells of its GPUs, through its management library (NVML), which is loaded
// at run time. It needs no CUDA, and knows what CUDA does not: how the GPU is plugged in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"

namespace strata::tiering {

// NVML's structs and functions, as its documentation has them; all return 0 when they succeed. What
// is null is not there: older drivers lack some.
struct NvmlPciInfo {
  char legacy_bus_id[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlFunctions {
  using Device = void*;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*cuda_version)(int*) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*device)(unsigned, Device*) = nullptr;
  int (*name)(Device, char*, unsigned) = nullptr;
  int (*uuid)(Device, char*, unsigned) = nullptr;
  int (*pci_info)(Device, NvmlPciInfo*) = nullptr;
  int (*memory)(Device, NvmlMemory*) = nullptr;
  int (*compute_capability)(Device, int*, int*) = nullptr;
  int (*link_generation)(Device, unsigned*) = nullptr;
  int (*max_link_generation)(Device, unsigned*) = nullptr;
  int (*link_width)(Device, unsigned*) = nullptr;
  int (*max_link_width)(Device, unsigned*) = nullptr;
  int (*nvlink_state)(Device, unsigned, int*) = nullptr;
  int (*persistence)(Device, int*) = nullptr;
  int (*ecc)(Device, int*, int*) = nullptr;
};

// kUnavailable where there is no such library: no driver.
Result<NvmlFunctions> LoadNvml();

// Nothing where the driver does not say.
struct DriverGpu {
  uint32_t index = 0;  // as the driver counts: CUDA_VISIBLE_DEVICES hides none
  std::string name;
  std::string uuid = {};   // "GPU-1b2f...", as CUDA_VISIBLE_DEVICES may name it
  std::string pci_bus_id;  // "0000:1b:00.0"
  std::optional<uint32_t> numa_node;
  uint64_t memory_bytes = 0;
  uint64_t free_bytes = 0;
  uint32_t compute_capability = 0;                               // 90 is 9.0
  std::optional<uint32_t> link_generation, max_link_generation;  // PCIe
  std::optional<uint32_t> link_width, max_link_width;            // lanes
  uint32_t num_nvlinks = 0;                                      // that are up
  std::optional<bool> is_persistent;  // the driver stays loaded when nobody uses the GPU
  std::optional<bool> has_ecc;
};

struct GpuDriver {
  std::string version;        // "580.82.07"
  uint32_t cuda_version = 0;  // the newest it is for: 13000 is 13.0
  std::vector<DriverGpu> gpus;
};
Result<GpuDriver> AskGpuDriver(const NvmlFunctions& nvml);

// The NUMA node (as the OS counts) of a PCI device, where sysfs tells. Letters of the id are small.
std::optional<uint32_t> NumaNodeOfPciDevice(const std::string& pci_bus_id,
                                            const std::string& sysfs = "/sys");

}  // namespace strata::tiering
