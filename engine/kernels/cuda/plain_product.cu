#include "aio/base/units.h"
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/plain_product.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kTile = 64;   // rows and columns of a block
constexpr unsigned kDepth = 16;  // that is in shared memory
constexpr unsigned kSide = 16;   // a thread has rows y, y + 16.. and columns x, x + 16..
constexpr unsigned kOwn = kTile / kSide;

// An operand as the product reads it.
template <typename T>
struct Operand {
  View<const T> values;
  size_t rows, cols;  // transposed, if it is
  bool is_transposed;

  __device__ float At(size_t row, size_t col) const {
    if (row >= rows || col >= cols) return 0.0f;
    return ToFloat(is_transposed ? *values.At(col, row) : *values.At(row, col));
  }
};
template <typename T>
Operand<T> OperandOf(const Matrix& matrix, Transpose transpose) {
  const bool is_transposed = transpose == Transpose::kYes;
  return {ViewOf<const T>(matrix), is_transposed ? matrix.cols : matrix.rows,
          is_transposed ? matrix.rows : matrix.cols, is_transposed};
}

// Lines are rows of a or columns of b.
struct Stage {
  float values[kDepth][kTile + 1];

  // at(line, depth) for a tile of lines; neighbouring threads take what lies side by side.
  template <typename At>
  __device__ void Load(bool depth_is_dense, const At& at) {
    for (unsigned i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const unsigned line = depth_is_dense ? i / kDepth : i % kTile;
      const unsigned depth = depth_is_dense ? i % kDepth : i / kTile;
      values[depth][line] = at(line, depth);
    }
  }
};

template <typename T, typename Out>
__global__ void __launch_bounds__(kThreads)
    PlainProductKernel(Operand<T> a, Operand<T> b, View<Out> out, Output output) {
  __shared__ Stage stage_a, stage_b;
  const unsigned x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  const size_t tiles_across = CeilDiv(b.cols, size_t{kTile});
  const size_t num_tiles = CeilDiv(a.rows, size_t{kTile}) * tiles_across;
  for (size_t tile = blockIdx.x; tile < num_tiles; tile += gridDim.x) {
    const size_t first_row = tile / tiles_across * kTile, first_col = tile % tiles_across * kTile;
    float sums[kOwn][kOwn] = {};
    for (size_t first = 0; first < a.cols; first += kDepth) {
      stage_a.Load(!a.is_transposed, [&](unsigned line, unsigned depth) {
        return a.At(first_row + line, first + depth);
      });
      stage_b.Load(b.is_transposed, [&](unsigned line, unsigned depth) {
        return b.At(first + depth, first_col + line);
      });
      __syncthreads();
      for (unsigned depth = 0; depth < kDepth; ++depth) {
        for (unsigned i = 0; i < kOwn; ++i) {
          for (unsigned j = 0; j < kOwn; ++j) {
            sums[i][j] = fmaf(stage_a.values[depth][y + i * kSide],
                              stage_b.values[depth][x + j * kSide], sums[i][j]);
          }
        }
      }
      __syncthreads();
    }
    for (unsigned i = 0; i < kOwn; ++i) {
      for (unsigned j = 0; j < kOwn; ++j) {
        const size_t row = first_row + y + i * kSide, col = first_col + x + j * kSide;
        if (row >= a.rows || col >= b.cols) continue;
        Out* to = out.At(row, col);
        const float before = output == Output::kAccumulate ? ToFloat(*to) : 0.0f;
        *to = FromFloat<Out>(before + sums[i][j]);
      }
    }
  }
}

}  // namespace

Status PlainProduct(const Kernels::Stream& stream, const Matrix& a, Transpose transpose_a,
                    const Matrix& b, Transpose transpose_b, const Matrix& out, Output output) {
  const size_t num_tiles = CeilDiv(out.rows, size_t{kTile}) * CeilDiv(out.cols, size_t{kTile});
  const LaunchShape shape{.grid = NumBlocks(num_tiles, 1), .block = kThreads};
  const auto launch = [&]<typename T, typename Out>(T, Out) {
    return Launch(&PlainProductKernel<T, Out>, shape, stream, OperandOf<T>(a, transpose_a),
                  OperandOf<T>(b, transpose_b), ViewOf<Out>(out), output);
  };
  return WithElementType(a.dtype, [&]<typename T>(T element) {
    return out.dtype == DType::kF32 ? launch(element, float()) : launch(element, T());
  });
}

}  // namespace strata::engine::cuda
