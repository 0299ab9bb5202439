// What the kernels of attention take, and how a grid of blocks is dealt out.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "aio/base/units.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/kernels.h"

// A loop over registers: an array whose index is not known when it is compiled is in memory.
#if defined(__CUDACC__)
#define STRATA_UNROLL _Pragma("unroll")
#else
#define STRATA_UNROLL
#endif

namespace strata::engine::cuda {

// Forward and, from `dots` on, backward. Matrices are on the device.
struct AttentionArguments {
  AttentionShape shape;
  float scale = 0;  // of scores
  Matrix q, k, v, out;
  float* log_sum_exp = nullptr;  // like dots: [num_heads, batch * seq_len]
  float* dots = nullptr;         // of a row of out and its gradient
  Matrix dout, dq, dk, dv;
};

inline float ScaleOf(const AttentionShape& shape) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
}

// What one block does: a tile of rows of one head of one sequence.
struct AttentionTask {
  size_t tile, head, batch;
};

// Blocks are dealt out tile by tile, so that those that walk the longest can be first: a task's
// number is tile * heads * batch + batch * heads + head, and neighbours share keys and values.
__device__ inline AttentionTask TaskOf(size_t number, size_t num_heads, size_t batch) {
  return {number / (num_heads * batch), number % num_heads, number / num_heads % batch};
}

// Where a task's rows are in packed matrices, and in what there is one number per row and head of.
__device__ inline size_t FirstRow(const AttentionShape& shape, const AttentionTask& task) {
  return task.batch * shape.seq_len;
}
__device__ inline size_t FirstNumber(const AttentionShape& shape, size_t head, size_t batch) {
  return (head * shape.batch + batch) * shape.seq_len;
}
__device__ inline size_t HeadsPerKvHead(const AttentionShape& shape) {
  return shape.num_heads / shape.num_kv_heads;
}

// A head's part of a packed matrix, from a row on.
template <typename T>
struct HeadRows {
  T* data;
  size_t stride;

  __device__ T* Row(size_t row) const { return data + row * stride; }
};
template <typename T>
__device__ HeadRows<T> RowsOfHead(const Matrix& matrix, const AttentionShape& shape, size_t row,
                                  size_t head) {
  return {reinterpret_cast<T*>(matrix.data) + row * matrix.stride + head * shape.head_dim,
          matrix.stride};
}

// One block per tile of `tile_rows` of a sequence, per head and sequence.
inline Result<LaunchShape> ShapeOfTasks(const AttentionShape& shape, size_t num_heads,
                                        size_t tile_rows, unsigned threads, size_t shared_bytes) {
  constexpr size_t kMaxBlocks = 0x7fffffff;
  const size_t blocks = CeilDiv(shape.seq_len, tile_rows) * num_heads * shape.batch;
  if (blocks > kMaxBlocks || shape.seq_len > kMaxBlocks)
    return InvalidArgument(
        "attention over more tokens than a grid of blocks has room for: make "
        "micro_batch smaller");
  return LaunchShape{dim3(static_cast<unsigned>(blocks)), dim3(threads), shared_bytes};
}

// The implementations. A head has at most kMaxTensorCoreHeadDim elements for tensor cores.
inline constexpr size_t kMaxTensorCoreHeadDim = 128;
Status TensorCoreForward(const Kernels::Stream& stream, const AttentionArguments& arguments);
Status TensorCoreBackward(const Kernels::Stream& stream, const AttentionArguments& arguments);
// Backwards take `dots` as AttentionDots() makes them.
Status AttentionDots(const Kernels::Stream& stream, const AttentionArguments& arguments);
Status PlainForward(const Kernels::Stream& stream, const AttentionArguments& arguments);
Status PlainBackward(const Kernels::Stream& stream, const AttentionArguments& arguments);

}  // namespace strata::engine::cuda
