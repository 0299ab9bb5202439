// Runs the threads of a grid, block after block, each thread of a block as a fiber.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>

#include "tests/fakes/cuda/emulator.h"

namespace strata::fakes::cuda {

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  ThreadOrder order = ThreadOrder::kAscending;
  uint64_t seed = 0;
};

// Empty, or what is wrong with the kernel: threads that wait for others which have ended, or at
// different barriers, or a write past the end of shared memory.
std::string RunGrid(const Grid& grid, const std::function<void()>& thread);

}  // namespace strata::fakes::cuda
