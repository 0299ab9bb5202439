// NVML of a driver with two GPUs, at bus ids that no machine has told a NUMA node for.
#include <cstdint>
#include <cstdio>

#include "tiering/gpu_driver.h"

using Device = strata::tiering::NvmlFunctions::Device;

namespace {

bool IsFirst(Device device) { return reinterpret_cast<intptr_t>(device) == 1; }

int Say(char* to, unsigned size, const char* text) {
  std::snprintf(to, size, "%s", text);
  return 0;
}

}  // namespace

extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
const char* nvmlErrorString(int) { return "Unknown Error"; }
int nvmlSystemGetDriverVersion(char* to, unsigned size) { return Say(to, size, "580.82.07"); }
int nvmlSystemGetCudaDriverVersion(int* version) { return *version = 13000, 0; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 2, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  *device = reinterpret_cast<Device>(static_cast<intptr_t>(index) + 1);
  return 0;
}
int nvmlDeviceGetName(Device, char* to, unsigned size) { return Say(to, size, "NVIDIA H100"); }
int nvmlDeviceGetPciInfo_v3(Device device, strata::tiering::NvmlPciInfo* info) {
  return Say(info->bus_id, sizeof info->bus_id,
             IsFirst(device) ? "0000FFFF:17:00.0" : "0000FFFF:9B:00.0");
}
int nvmlDeviceGetMemoryInfo(Device, strata::tiering::NvmlMemory* memory) {
  return *memory = {.total = 80'000, .free = 70'000, .used = 10'000}, 0;
}
int nvmlDeviceGetCudaComputeCapability(Device, int* major, int* minor) {
  return *major = 9, *minor = 0, 0;
}
}
