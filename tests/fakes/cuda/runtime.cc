// What of the emulated runtime is neither stream nor event.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/fakes/cuda/machine.h"

using strata::fakes::cuda::Machine;

namespace {

constexpr int kVersion = 13000;
thread_local int current_device = 0;

}  // namespace

#define ENTER() \
  if (const cudaError_t error = Machine::Get().Enter(__func__); error != cudaSuccess) return error

cudaError_t cudaDriverGetVersion(int* version) {
  *version = Machine::Get().num_devices > 0 ? kVersion : 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  ENTER();
  *count = Machine::Get().num_devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  ENTER();
  if (device < 0 || device >= Machine::Get().num_devices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  ENTER();
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDeviceFlags(unsigned) {
  ENTER();
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  ENTER();
  if (device < 0 || device >= Machine::Get().num_devices) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "Emulated GPU");
  properties->totalGlobalMem = Machine::Get().memory.limit();
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->maxThreadsPerBlock = 1024;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->pciBusID = 1 + device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess)
    return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  ENTER();
  if (device < 0 || device >= Machine::Get().num_devices) return cudaErrorInvalidDevice;
  std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", 1 + device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  ENTER();
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  ENTER();
  *total_bytes = Machine::Get().memory.limit();
  *free_bytes = *total_bytes - Machine::Get().memory.allocated(current_device);
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInitializationError:
      return "cudaErrorInitializationError";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchOutOfResources:
      return "cudaErrorLaunchOutOfResources";
    case cudaErrorHostMemoryAlreadyRegistered:
      return "cudaErrorHostMemoryAlreadyRegistered";
    case cudaErrorHostMemoryNotRegistered:
      return "cudaErrorHostMemoryNotRegistered";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorUnknown:
      break;
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "an emulated failure";
  }
}
cudaError_t cudaGetLastError() { return Machine::Get().broken(); }
cudaError_t cudaPeekAtLastError() { return Machine::Get().broken(); }

cudaError_t cudaMalloc(void** memory, size_t size) {
  ENTER();
  return Machine::Get().memory.Allocate(current_device, size, memory);
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  return Machine::Get().memory.Free(memory);
}
cudaError_t cudaHostRegister(void* memory, size_t size, unsigned) {
  ENTER();
  return Machine::Get().pinned.Add(memory, size);
}
cudaError_t cudaHostUnregister(void* memory) { return Machine::Get().pinned.Remove(memory); }
cudaError_t cudaHostAlloc(void** memory, size_t size, unsigned) {
  ENTER();
  *memory = std::aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  if (*memory == nullptr) return cudaErrorMemoryAllocation;
  return Machine::Get().pinned.Add(*memory, size);
}
cudaError_t cudaMallocHost(void** memory, size_t size) { return cudaHostAlloc(memory, size, 0); }
cudaError_t cudaFreeHost(void* memory) {
  const cudaError_t error = Machine::Get().pinned.Remove(memory);
  if (error == cudaSuccess) std::free(memory);
  return error;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
  ENTER();
  const bool is_too_much =
      attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value > 227 << 10;
  return is_too_much ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaFuncGetName(const char** name, const void* kernel) {
  Dl_info info = {};
  const bool known = dladdr(kernel, &info) != 0 && info.dli_sname != nullptr;
  *name = known ? info.dli_sname : "without a name";
  return cudaSuccess;
}
