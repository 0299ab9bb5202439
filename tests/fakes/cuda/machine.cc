#include "tests/fakes/cuda/machine.h"

#include <sys/mman.h>

#include <cstring>
#include <thread>

#include "aio/base/check.h"

namespace strata::fakes::cuda {
namespace {

constexpr size_t kPageBytes = 4096;
size_t WholePages(size_t size) { return (size + kPageBytes - 1) / kPageBytes * kPageBytes; }

// The entry of `ranges` that `address` is in or behind, or end.
template <typename Map>
auto Before(Map& ranges, uintptr_t address) {
  auto after = ranges.upper_bound(address);
  return after == ranges.begin() ? ranges.end() : std::prev(after);
}

}  // namespace

cudaError_t DeviceMemory::Allocate(int device, size_t size, void** memory) {
  if (allocated(device) + size > limit()) return cudaErrorMemoryAllocation;
  std::lock_guard lock(mutex_);
  void* at =
      mmap(nullptr, WholePages(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return cudaErrorMemoryAllocation;
  (void)madvise(at, WholePages(size), MADV_HUGEPAGE);  // fewer to protect at each access
  std::memset(at, 0xff, size);
  if (num_accesses_ == 0) mprotect(at, WholePages(size), PROT_NONE);
  allocations_[reinterpret_cast<uintptr_t>(at)] = {size, device};
  *memory = at;
  return cudaSuccess;
}

cudaError_t DeviceMemory::Free(void* memory) {
  std::lock_guard lock(mutex_);
  const auto at = allocations_.find(reinterpret_cast<uintptr_t>(memory));
  if (at == allocations_.end()) return cudaErrorInvalidValue;
  munmap(memory, WholePages(at->second.size));
  allocations_.erase(at);
  return cudaSuccess;
}

bool DeviceMemory::Holds(const void* memory, size_t size) {
  std::lock_guard lock(mutex_);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const auto at = Before(allocations_, address);
  return at != allocations_.end() && address + size <= at->first + at->second.size;
}

bool DeviceMemory::Touches(const void* memory, size_t size) {
  std::lock_guard lock(mutex_);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const auto at = Before(allocations_, address + size - 1);
  return at != allocations_.end() && address < at->first + at->second.size;
}

void DeviceMemory::SetLimit(size_t bytes_per_device) {
  std::lock_guard lock(mutex_);
  limit_ = bytes_per_device;
}
size_t DeviceMemory::limit() {
  std::lock_guard lock(mutex_);
  return limit_;
}
size_t DeviceMemory::allocated(int device) {
  std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& [address, allocation] : allocations_)
    if (allocation.device == device) bytes += allocation.size;
  return bytes;
}

void DeviceMemory::Open() {
  std::lock_guard lock(mutex_);
  if (num_accesses_++ == 0) Protect(PROT_READ | PROT_WRITE);
}
void DeviceMemory::Close() {
  std::lock_guard lock(mutex_);
  if (--num_accesses_ == 0) Protect(PROT_NONE);
}
void DeviceMemory::Protect(int protection) {
  for (const auto& [address, allocation] : allocations_)
    STRATA_CHECK(
        mprotect(reinterpret_cast<void*>(address), WholePages(allocation.size), protection) == 0);
}

cudaError_t PinnedMemory::Add(void* memory, size_t size) {
  std::lock_guard lock(mutex_);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const auto at = Before(ranges_, address + size - 1);
  if (at != ranges_.end() && address < at->first + at->second)
    return cudaErrorHostMemoryAlreadyRegistered;
  ranges_[address] = size;
  return cudaSuccess;
}
cudaError_t PinnedMemory::Remove(void* memory) {
  std::lock_guard lock(mutex_);
  return ranges_.erase(reinterpret_cast<uintptr_t>(memory)) == 1 ? cudaSuccess
                                                                 : cudaErrorHostMemoryNotRegistered;
}
bool PinnedMemory::Holds(const void* memory, size_t size) {
  std::lock_guard lock(mutex_);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const auto at = Before(ranges_, address);
  return at != ranges_.end() && address + size <= at->first + at->second;
}
size_t PinnedMemory::num_ranges() {
  std::lock_guard lock(mutex_);
  return ranges_.size();
}

Machine& Machine::Get() {
  static Machine machine;
  return machine;
}

cudaError_t Machine::Enter(const char* function) {
  if (broken() != cudaSuccess) return broken();
  if (num_devices == 0) return cudaErrorNoDevice;
  std::unique_lock lock(mutex_);
  const auto at = faults_.find(function);
  if (at == faults_.end() || at->second.empty()) return cudaSuccess;
  const Fault fault = at->second.front();
  at->second.pop_front();
  lock.unlock();
  std::this_thread::sleep_for(fault.delay);
  return fault.error;
}

cudaError_t Machine::EnterKernel() {
  std::lock_guard lock(mutex_);
  if (kernels_until_failure_ < 0 || kernels_until_failure_-- > 0) return cudaSuccess;
  return kernel_failure_;
}

void Machine::Break(cudaError_t error) {
  cudaError_t whole = cudaSuccess;
  broken_.compare_exchange_strong(whole, error);
}

void Machine::SpoilNext(const std::string& function, const Fault& fault) {
  std::lock_guard lock(mutex_);
  faults_[function].push_back(fault);
}
void Machine::FailKernel(int launches, cudaError_t error) {
  std::lock_guard lock(mutex_);
  kernels_until_failure_ = launches;
  kernel_failure_ = error;
}
void Machine::Reset() {
  std::lock_guard lock(mutex_);
  faults_.clear();
  kernels_until_failure_ = -1;
  broken_ = cudaSuccess;
}

void SetThreadOrder(ThreadOrder order, uint64_t seed) {
  Machine::Get().order = order;
  Machine::Get().seed = seed;
}
void SetDevices(int count) { Machine::Get().num_devices = count; }
void SetMemory(size_t bytes_per_device) { Machine::Get().memory.SetLimit(bytes_per_device); }
void FailNext(const std::string& function, cudaError_t error) {
  Machine::Get().SpoilNext(function, {.error = error});
}
void DelayNext(const std::string& function, std::chrono::milliseconds delay) {
  Machine::Get().SpoilNext(function, {.delay = delay});
}
void FailKernel(int launches, cudaError_t error) { Machine::Get().FailKernel(launches, error); }
void Reset() { Machine::Get().Reset(); }

Counters counters() {
  Machine& machine = Machine::Get();
  Counters counters = {.kernels = machine.kernels,
                       .copies = machine.copies,
                       .copies_of_pageable_memory = machine.pageable,
                       .waits_between_streams = machine.waits,
                       .streams = machine.streams,
                       .events = machine.events,
                       .registered_ranges = machine.pinned.num_ranges()};
  for (int device = 0; device < machine.num_devices; ++device)
    counters.bytes_allocated += machine.memory.allocated(device);
  return counters;
}

}  // namespace strata::fakes::cuda
