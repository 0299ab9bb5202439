// CUDA without a GPU: the project's CUDA sources, compiled for this machine's cores.
//
// include/ holds headers with CUDA's names; a source that is compiled against them, and linked with
// strata::cuda_emulator, runs here: streams are threads, device memory is memory that the host may
// not touch (a read or write of it from outside a copy or a kernel is a segmentation fault), and
// the threads of a block are fibers that really wait for each other at barriers and shuffles. What
// it finds: wrong indices, wrong values, missing barriers (in another order of threads other bits
// come out), divergent barriers, host accesses, copies of memory that is not pinned. What it cannot
// find: what depends on a GPU's own arithmetic (its exp, the order of sums of its matrix units),
// limits of registers, alignment faults of vector accesses, speed.
//
// One emulated machine per process. Thread-safe.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace strata::fakes::cuda {

enum class ThreadOrder : uint8_t { kAscending, kDescending, kShuffled };

// In which order the threads of a block run between two barriers, and the blocks of a grid; when
// shuffled, warps get ahead of each other, too, as far as barriers of the block let them. Right
// kernels give the same bits in any.
void SetThreadOrder(ThreadOrder order, uint64_t seed = 0);

// What the machine has; takes effect for what is asked afterwards.
void SetDevices(int count);  // 1 at first
void SetMemory(size_t bytes_per_device);

// The next call of a function of the runtime ("cudaMalloc") fails so, once per call of this.
void FailNext(const std::string& function, cudaError_t error);
// As on a busy host: the next call of it takes so long, or the one after those that fail.
void DelayNext(const std::string& function, std::chrono::milliseconds delay);
// As an illegal access in a kernel: after `launches` more kernels, one fails when it runs, and from
// then on all calls fail with `error`, until Reset().
void FailKernel(int launches, cudaError_t error);
// Forgets failures. Nothing may be under way.
void Reset();

struct Counters {
  uint64_t kernels = 0;
  uint64_t copies = 0;
  uint64_t copies_of_pageable_memory = 0;  // which CUDA makes wait
  uint64_t waits_between_streams = 0;
  uint64_t bytes_allocated = 0;    // now
  uint64_t streams = 0;            // now
  uint64_t events = 0;             // now
  uint64_t registered_ranges = 0;  // now
};
Counters counters();

// Puts work on a stream, for stand-ins of CUDA's libraries: it may touch device memory.
cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work);

}  // namespace strata::fakes::cuda
