// Sums along a row in the order of the host's kernels (rows/elements.h): element i is added to sum
// i % 16, one after the other, then the sixteen as a tree. So the bits are the host's.
//
// All threads of a block load and multiply; half a warp per sum does nothing but add, from shared
// memory, a chunk behind the others. That keeps up with memory: sixteen additions take a few cycles
// and a multiprocessor holds several blocks.
#pragma once

#include "engine/kernels/cuda/for_packs.h"

namespace strata::engine::cuda {

inline constexpr unsigned kSumLanes = 16;

// The sum of the sixteen numbers that each half of a warp has, in all its threads. Number i is
// added to number i + 8, then i + 4...
template <typename T>
__device__ inline T SumOfLanes(T value) {
  for (unsigned distance = kSumLanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, static_cast<int>(distance));
  return value;
}

// kSums (1 or 2) sums over n > 0 elements of a row, by all threads of a block of kThreads.
// T is what is summed, kPack how many elements a thread takes at once.
template <typename T, unsigned kThreads, unsigned kSums, size_t kPack>
class RowSums {
 public:
  static constexpr unsigned kChunk = kThreads * kPack;
  struct Shared {
    alignas(kPackBytes) T stage[2][kSums][kChunk];
    T totals[kSums];
  };

  __device__ explicit RowSums(Shared& shared) : shared_(shared) {}

  // terms(col, values) gives values[sum][i], what element col + i adds to each sum; zeros from n
  // on.
  template <typename Terms>
  __device__ void Run(size_t n, const Terms& terms, T (&totals)[kSums]) {
    const unsigned own = threadIdx.x * kPack;
    const unsigned sum = threadIdx.x / kSumLanes;
    const unsigned lane = threadIdx.x % kSumLanes;
    T values[kSums][kPack];
    T running = 0;
    terms(own, values);
    unsigned buffer = 0;
    for (size_t first = 0; first < n; first += kChunk, buffer ^= 1) {
      for (unsigned s = 0; s < kSums; ++s) {
        for (unsigned i = 0; i < kPack; ++i) shared_.stage[buffer][s][own + i] = values[s][i];
      }
      // Once all are here, the chunk is complete, and that of two rounds ago was summed.
      __syncthreads();
      if (first + kChunk < n) terms(first + kChunk + own, values);
      if (sum < kSums) running = AddChunk(shared_.stage[buffer][sum] + lane, n - first, running);
    }
    running = SumOfLanes(running);
    if (sum < kSums && lane == 0) shared_.totals[sum] = running;
    __syncthreads();
    for (unsigned s = 0; s < kSums; ++s) totals[s] = shared_.totals[s];
  }

 private:
  // Zeros after the last element change no sum.
  __device__ static T AddChunk(const T* from, size_t count, T running) {
    const unsigned groups = count < kChunk
                                ? (static_cast<unsigned>(count) + kSumLanes - 1) / kSumLanes
                                : kChunk / kSumLanes;
    for (unsigned group = 0; group < groups; ++group) running += from[group * kSumLanes];
    return running;
  }

  Shared& shared_;
};

// How many threads share a row, and how many elements each takes at once.
template <unsigned kThreads, size_t kPack>
struct RowBlock {
  static LaunchShape Shape(size_t rows) { return {.grid = NumBlocks(rows, 1), .block = kThreads}; }
};

// Calls function(RowBlock()) for the rows of matrices of T: the wider, the more threads.
template <typename T, typename Function>
Status WithRowBlock(std::initializer_list<const Matrix*> matrices, Function function) {
  return WithPackOf<kPackBytes / sizeof(T)>(matrices,
                                            [&]<size_t N>(std::integral_constant<size_t, N>) {
                                              const size_t cols = (*matrices.begin())->cols;
                                              if constexpr (N > 1) {
                                                if (cols <= 1024)
                                                  return function(RowBlock<64, N>());
                                                if (cols <= 2048)
                                                  return function(RowBlock<128, N>());
                                              }
                                              return function(RowBlock<256, N>());
                                            });
}

}  // namespace strata::engine::cuda
