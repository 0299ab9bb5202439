// What the emulated runtime keeps: the state of the machine, its memory, its failures.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "tests/fakes/cuda/emulator.h"

namespace strata::fakes::cuda {

// Device memory: the host may not touch it but within an Access. Thread-safe.
class DeviceMemory {
 public:
  cudaError_t Allocate(int device, size_t size, void** memory);
  cudaError_t Free(void* memory);
  bool Holds(const void* memory, size_t size);    // wholly, in one allocation
  bool Touches(const void* memory, size_t size);  // anything of it
  void SetLimit(size_t bytes_per_device);
  size_t limit();
  size_t allocated(int device);

  class Access {
   public:
    explicit Access(DeviceMemory& memory) : memory_(memory) { memory_.Open(); }
    ~Access() { memory_.Close(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    DeviceMemory& memory_;
  };

 private:
  struct Allocation {
    size_t size = 0;
    int device = 0;
  };
  void Open();
  void Close();
  void Protect(int protection);

  std::mutex mutex_;
  std::map<uintptr_t, Allocation> allocations_;
  int num_accesses_ = 0;
  size_t limit_ = size_t{1} << 30;
};

// Host memory that CUDA was told of. Thread-safe.
class PinnedMemory {
 public:
  cudaError_t Add(void* memory, size_t size);
  cudaError_t Remove(void* memory);
  bool Holds(const void* memory, size_t size);
  size_t num_ranges();

 private:
  std::mutex mutex_;
  std::map<uintptr_t, size_t> ranges_;
};

// Of one call.
struct Fault {
  cudaError_t error = cudaSuccess;
  std::chrono::milliseconds delay{0};
};

class Machine {
 public:
  static Machine& Get();

  // What a call of `function` is to return at once; cudaSuccess to go on.
  cudaError_t Enter(const char* function);
  // Of the kernel that is about to run.
  cudaError_t EnterKernel();
  // From now on every call fails, as after an illegal access.
  void Break(cudaError_t error);
  cudaError_t broken() const { return broken_.load(); }

  DeviceMemory memory;
  PinnedMemory pinned;
  std::atomic<int> num_devices = 1;
  std::atomic<ThreadOrder> order = ThreadOrder::kAscending;
  std::atomic<uint64_t> seed = 0;
  std::atomic<uint64_t> kernels = 0, copies = 0, pageable = 0, waits = 0, streams = 0, events = 0;

  void SpoilNext(const std::string& function, const Fault& fault);
  void FailKernel(int launches, cudaError_t error);
  void Reset();

 private:
  std::mutex mutex_;
  std::map<std::string, std::deque<Fault>> faults_;
  int kernels_until_failure_ = -1;
  cudaError_t kernel_failure_ = cudaSuccess;
  std::atomic<cudaError_t> broken_ = cudaSuccess;
};

}  // namespace strata::fakes::cuda
