#include <algorithm>
#include <array>

#include "aio/base/check.h"
#include "engine/kernels/internal/cpu_kernels.h"
#include "engine/kernels/internal/row_kernels.h"

namespace strata::engine {
namespace {

// Small enough to share evenly, large enough that handing it out costs nothing.
constexpr uint64_t kPieceElements = 65536;

// sum(first, count) is that of one piece.
template <typename Sum>
double SumOfPieces(uint64_t num_elements, ThreadPool& pool, Sum sum) {
  std::array<double, 256> sums;  // as many pieces as are in flight at once
  double total = 0;
  for (uint64_t begin = 0; begin < num_elements; begin += sums.size() * kPieceElements) {
    const uint64_t left = num_elements - begin;
    const size_t count = std::min((left + kPieceElements - 1) / kPieceElements, sums.size());
    pool.ParallelFor(count, [&](size_t i) {
      const uint64_t first = i * kPieceElements;
      sums[i] = sum(begin + first, std::min(kPieceElements, left - first));
    });
    for (size_t i = 0; i < count; ++i) total += sums[i];
  }
  return total;
}

}  // namespace

Status CpuKernels::RoundAndSumSquares(const Stream&, std::span<const float> from, std::byte* to,
                                      DType dtype, double* squares, std::span<std::byte>) {
  *squares = SumOfPieces(from.size(), pool_, [&](uint64_t first, uint64_t count) {
    return rows_.round_and_sum_squares(from.data() + first, to + first * SizeOf(dtype), dtype,
                                       count);
  });
  return OkStatus();
}

Status CpuKernels::SumOfSquares(const Stream&, std::span<const std::byte> numbers, DType dtype,
                                double* squares, std::span<std::byte>) {
  *squares =
      SumOfPieces(numbers.size() / SizeOf(dtype), pool_, [&](uint64_t first, uint64_t count) {
        return rows_.sum_of_squares(numbers.data() + first * SizeOf(dtype), dtype, count);
      });
  return OkStatus();
}

}  // namespace strata::engine
