// Kernels that work element by element: how they are cut into threads.
#pragma once

#include <bit>
#include <utility>

#include "engine/kernels/cuda/elements.h"
#include "engine/kernels/cuda/launch.h"

namespace strata::engine::cuda {

inline constexpr size_t kMaxGridX = 0x7fffffff, kMaxGridY = 65535;

// How many blocks share `total` where one takes `per_block`; the rest, where the grid ends, is
// reached by strides.
inline unsigned NumBlocks(size_t total, size_t per_block, size_t limit = kMaxGridX) {
  return static_cast<unsigned>(std::min((total + per_block - 1) / per_block, limit));
}

// Threads for rows x cols items, neighbours along a row.
inline LaunchShape ShapeOfItems(size_t rows, size_t cols) {
  constexpr size_t kThreads = 256;
  const size_t x = std::min(kThreads, std::bit_ceil(std::max<size_t>(cols, 1)));
  const size_t y = std::min(kThreads / x, std::bit_ceil(std::max<size_t>(rows, 1)));
  return {.grid = dim3(NumBlocks(cols, x), NumBlocks(rows, y, kMaxGridY)),
          .block = dim3(static_cast<unsigned>(x), static_cast<unsigned>(y))};
}

// op.Run<N>(row, col, count) for all elements, N of them at once, or the `count` that are left,
// from (row, col) on.
template <size_t N, typename Op>
__global__ void ForPacksKernel(Op op, size_t rows, size_t cols) {
  const size_t first = (size_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
  const size_t step = size_t{gridDim.x} * blockDim.x * N;
  size_t row = size_t{blockIdx.y} * blockDim.y + threadIdx.y;
  for (; row < rows; row += size_t{gridDim.y} * blockDim.y) {
    for (size_t col = first; col < cols; col += step) op.template Run<N>(row, col, cols - col);
  }
}

// For all elements of `matrices`, which have one shape; an op takes Op::kPack of them at once.
// Rows without gaps between them are one long row to it.
template <typename Op>
Status ForPacks(const Kernels::Stream& stream, std::initializer_list<const Matrix*> matrices,
                const Op& op) {
  const Matrix& shape = **matrices.begin();
  const bool is_dense = std::all_of(matrices.begin(), matrices.end(), [](const Matrix* matrix) {
    return matrix->stride == matrix->cols;
  });
  const size_t rows = is_dense ? 1 : shape.rows;
  const size_t cols = is_dense ? shape.rows * shape.cols : shape.cols;
  return WithPackOf<Op::kPack>(matrices, [&]<size_t N>(std::integral_constant<size_t, N>) {
    return Launch(&ForPacksKernel<N, Op>, ShapeOfItems(rows, (cols + N - 1) / N), stream, op, rows,
                  cols);
  });
}

// What ForPacks() takes: out = Function()(a, b), element by element, in fp32.
template <typename T, typename Function>
struct OfTwo {
  static constexpr size_t kPack = kPackBytes / sizeof(T);
  View<const T> a, b;
  View<T> out;

  template <size_t N>
  __device__ void Run(size_t row, size_t col, size_t count) const {
    float x[N], y[N];
    LoadFloats(a.At(row, col), count, x);
    LoadFloats(b.At(row, col), count, y);
    for (size_t i = 0; i < N; ++i) x[i] = Function()(x[i], y[i]);
    StoreFloats(x, count, out.At(row, col));
  }
};
template <typename Function>
Status ForTwo(const Kernels::Stream& stream, const Matrix& a, const Matrix& b, const Matrix& out) {
  return WithElementType(a.dtype, [&]<typename T>(T) {
    const OfTwo<T, Function> op{ViewOf<const T>(a), ViewOf<const T>(b), ViewOf<T>(out)};
    return ForPacks(stream, {&a, &b, &out}, op);
  });
}

}  // namespace strata::engine::cuda
