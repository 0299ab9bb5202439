// RMSNorm and its backward. A row is a block's; the gradient of the weight, a sum over rows, is
// another kernel's, in which half a warp holds columns and goes through the rows. Bits are the
// host's.
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"
#include "engine/kernels/cuda/row_sums.h"

namespace strata::engine::cuda {
namespace {

__device__ inline float InverseRms(float squares, size_t n, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
}

template <typename T, size_t kPack>
struct Squares {
  const T* x;
  size_t n;

  __device__ void operator()(size_t col, float (&values)[1][kPack]) const {
    LoadFloats(x + col, n > col ? n - col : 0, values[0]);
    for (size_t i = 0; i < kPack; ++i) values[0][i] *= values[0][i];
  }
};

// Of x^2, and of dy * weight * x.
template <typename T, size_t kPack>
struct SquaresAndProjections {
  const T *x, *weight, *dy;
  size_t n;

  __device__ void operator()(size_t col, float (&values)[2][kPack]) const {
    float x_values[kPack], weights[kPack];
    const size_t count = n > col ? n - col : 0;
    LoadFloats(x + col, count, x_values);
    LoadFloats(weight + col, count, weights);
    LoadFloats(dy + col, count, values[1]);
    for (size_t i = 0; i < kPack; ++i) {
      values[0][i] = x_values[i] * x_values[i];
      values[1][i] = values[1][i] * weights[i] * x_values[i];
    }
  }
};

template <typename T, unsigned kThreads, size_t kPack>
__global__ void __launch_bounds__(kThreads)
    RmsNormForwardKernel(View<const T> x, const T* weight, float eps, View<T> y, size_t rows,
                         size_t cols) {
  using Sums = RowSums<float, kThreads, 1, kPack>;
  __shared__ typename Sums::Shared shared;
  for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
    float squares[1];
    Sums(shared).Run(cols, Squares<T, kPack>{x.At(row, 0), cols}, squares);
    const float inverse_rms = InverseRms(squares[0], cols, eps);
    for (size_t col = threadIdx.x * kPack; col < cols; col += Sums::kChunk) {
      float values[kPack], weights[kPack];
      LoadFloats(x.At(row, col), cols - col, values);
      LoadFloats(weight + col, cols - col, weights);
      for (size_t i = 0; i < kPack; ++i) values[i] = values[i] * inverse_rms * weights[i];
      StoreFloats(values, cols - col, y.At(row, col));
    }
  }
}

// G is what dx is of.
template <typename T, typename G>
struct BackwardOperands {
  View<const T> x;
  const T* weight;
  View<const T> dy;
  View<G> dx;
  float eps;
};

// Leaves 1 / rms of each row for the gradient of the weight.
template <typename T, typename G, unsigned kThreads, size_t kPack>
__global__ void __launch_bounds__(kThreads)
    RmsNormBackwardKernel(BackwardOperands<T, G> in, float* inverse_rms_of_rows, size_t rows,
                          size_t cols) {
  using Sums = RowSums<float, kThreads, 2, kPack>;
  __shared__ typename Sums::Shared shared;
  for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* x = in.x.At(row, 0);
    const T* dy = in.dy.At(row, 0);
    float sums[2];
    Sums(shared).Run(cols, SquaresAndProjections<T, kPack>{x, in.weight, dy, cols}, sums);
    const float inverse_rms = InverseRms(sums[0], cols, in.eps);
    const float projection = sums[1] * inverse_rms / static_cast<float>(cols);
    if (threadIdx.x == 0) inverse_rms_of_rows[row] = inverse_rms;
    for (size_t col = threadIdx.x * kPack; col < cols; col += Sums::kChunk) {
      const size_t count = cols - col;
      float values[kPack], weights[kPack], upstream[kPack], gradients[kPack];
      LoadFloats(x + col, count, values);
      LoadFloats(in.weight + col, count, weights);
      LoadFloats(dy + col, count, upstream);
      LoadFloats(in.dx.At(row, col), count, gradients);
      for (size_t i = 0; i < kPack; ++i) {
        const float normalised = values[i] * inverse_rms;
        gradients[i] += inverse_rms * (upstream[i] * weights[i] - normalised * projection);
      }
      StoreFloats(gradients, count, in.dx.At(row, col));
    }
  }
}

constexpr unsigned kGradientThreads = 256;
// Of a block: a sector of memory of 16 bits, so that models of 2048 columns keep 128 blocks busy.
constexpr unsigned kGradientCols = 16;
constexpr unsigned kGradientTileRows = 256;

// weight_gradient[col] += the terms of all rows, one after the other. A block has a few columns:
// all threads multiply a tile of rows, of which the first few add the one before.
template <typename T, size_t kPack>
__global__ void __launch_bounds__(kGradientThreads)
    RmsNormWeightGradientKernel(View<const T> x, View<const T> dy, const float* inverse_rms,
                                float* weight_gradient, size_t rows, size_t cols) {
  constexpr unsigned kThreadsPerRow = kGradientCols / kPack;
  constexpr unsigned kRowsAtOnce = kGradientThreads / kThreadsPerRow;
  constexpr unsigned kTileRows = kGradientTileRows;
  constexpr unsigned kPasses = kTileRows / kRowsAtOnce;
  __shared__ __align__(16) float stage[2][kTileRows][kGradientCols];
  const size_t first_col = size_t{blockIdx.x} * kGradientCols;
  const unsigned own_col = threadIdx.x % kThreadsPerRow * kPack;
  const unsigned own_row = threadIdx.x / kThreadsPerRow;
  const size_t col = first_col + own_col;
  const size_t count = cols > col ? cols - col : 0;
  float x_values[kPasses][kPack], dy_values[kPasses][kPack], factors[kPasses];
  const auto load = [&](size_t first_row) {
    for (unsigned pass = 0; pass < kPasses; ++pass) {
      const size_t row = first_row + pass * kRowsAtOnce + own_row;
      const size_t visible = row < rows ? count : 0;
      LoadFloats(x.At(row, col), visible, x_values[pass]);
      LoadFloats(dy.At(row, col), visible, dy_values[pass]);
      factors[pass] = row < rows ? inverse_rms[row] : 0.0f;
    }
  };
  const bool adds = threadIdx.x < kGradientCols && first_col + threadIdx.x < cols;
  float sum = adds ? weight_gradient[first_col + threadIdx.x] : 0.0f;
  load(0);
  unsigned buffer = 0;
  for (size_t first_row = 0; first_row < rows; first_row += kTileRows, buffer ^= 1) {
    for (unsigned pass = 0; pass < kPasses; ++pass) {
      for (unsigned i = 0; i < kPack; ++i) {
        stage[buffer][pass * kRowsAtOnce + own_row][own_col + i] =
            dy_values[pass][i] * (x_values[pass][i] * factors[pass]);
      }
    }
    __syncthreads();
    if (first_row + kTileRows < rows) load(first_row + kTileRows);
    const size_t left = rows - first_row;
    const unsigned here = left < kTileRows ? static_cast<unsigned>(left) : kTileRows;
    if (adds) {
      for (unsigned row = 0; row < here; ++row) sum += stage[buffer][row][threadIdx.x];
    }
  }
  if (adds) weight_gradient[first_col + threadIdx.x] = sum;
}

Matrix AsRow(const std::byte* weight, DType dtype, size_t cols) {
  return DenseMatrix(const_cast<std::byte*>(weight), dtype, 1, cols);
}

Matrix RowsFrom(const Matrix& matrix, size_t first, size_t count) {
  Matrix rows = matrix;
  rows.data += first * matrix.stride * SizeOf(matrix.dtype);
  rows.rows = std::min(count, matrix.rows - first);
  return rows;
}

template <typename T, typename G>
Status BackwardOfRows(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                      const Matrix& dy, const Matrix& dx, float* inverse_rms) {
  const Matrix weights = AsRow(weight, x.dtype, x.cols);
  const BackwardOperands<T, G> operands{ViewOf<const T>(x), reinterpret_cast<const T*>(weight),
                                        ViewOf<const T>(dy), ViewOf<G>(dx), eps};
  return WithRowBlock<T>({&x, &weights, &dy, &dx}, [&]<unsigned kThreads, size_t kPack>(
                                                       RowBlock<kThreads, kPack> block) {
    return Launch(&RmsNormBackwardKernel<T, G, kThreads, kPack>, block.Shape(x.rows), stream,
                  operands, inverse_rms, x.rows, x.cols);
  });
}

Status BackwardOfRows(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                      const Matrix& dy, const Matrix& dx, float* inverse_rms) {
  return WithElementType(x.dtype, [&]<typename T>(T) {
    return dx.dtype == DType::kF32
               ? BackwardOfRows<T, float>(stream, x, weight, eps, dy, dx, inverse_rms)
               : BackwardOfRows<T, T>(stream, x, weight, eps, dy, dx, inverse_rms);
  });
}

Status WeightGradientOfRows(const Stream& stream, const Matrix& x, const Matrix& dy,
                            const float* inverse_rms, float* weight_gradient) {
  return WithElementType(x.dtype, [&]<typename T>(T) {
    constexpr size_t kPack = kPackBytes / sizeof(T);
    return WithPackOf<kPack>({&x, &dy}, [&]<size_t N>(std::integral_constant<size_t, N>) {
      return Launch(&RmsNormWeightGradientKernel<T, N>,
                    {.grid = NumBlocks(x.cols, kGradientCols), .block = kGradientThreads}, stream,
                    ViewOf<const T>(x), ViewOf<const T>(dy), inverse_rms, weight_gradient, x.rows,
                    x.cols);
    });
  });
}

}  // namespace

Status RmsNormForward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                      const Matrix& y) {
  const Matrix weights = AsRow(weight, x.dtype, x.cols);
  return WithElementType(x.dtype, [&]<typename T>(T) {
    return WithRowBlock<T>(
        {&x, &weights, &y}, [&]<unsigned kThreads, size_t kPack>(RowBlock<kThreads, kPack> block) {
          return Launch(&RmsNormForwardKernel<T, kThreads, kPack>, block.Shape(x.rows), stream,
                        ViewOf<const T>(x), reinterpret_cast<const T*>(weight), eps, ViewOf<T>(y),
                        x.rows, x.cols);
        });
  });
}

Status RmsNormBackward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                       const Matrix& dy, const Matrix& dx, float* weight_gradient,
                       std::span<float> inverse_rms) {
  const size_t rows_at_once = inverse_rms.size();
  for (size_t first = 0; first < x.rows; first += rows_at_once) {
    const Matrix x_part = RowsFrom(x, first, rows_at_once);
    const Matrix dy_part = RowsFrom(dy, first, rows_at_once);
    const Matrix dx_part = RowsFrom(dx, first, rows_at_once);
    STRATA_RETURN_IF_ERROR(
        BackwardOfRows(stream, x_part, weight, eps, dy_part, dx_part, inverse_rms.data()));
    STRATA_RETURN_IF_ERROR(
        WeightGradientOfRows(stream, x_part, dy_part, inverse_rms.data(), weight_gradient));
  }
  return OkStatus();
}

}  // namespace strata::engine::cuda
