// Softmax and cross entropy over a vocabulary in pieces. Statistics and gradients have the host's
// bits: maxima have no order, and exponentials are summed in the host's, i.e. in fp32 over pieces
// of 1024 columns (column i of one to sum i % 16), then in fp64. The loss adds its rows in the
// host's order, too, but CUDA's fp64 logarithm may differ in the last place.
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"
#include "engine/kernels/cuda/row_sums.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::cuda {
namespace {

constexpr size_t kPiece = 1024;

// Some columns of logits, from first_column on.
struct Logits {
  View<const float> values;
  const int32_t* targets;
  size_t first_column;
  size_t rows, cols;

  // Where the row's target, which is counted, is among these columns, or `cols`.
  __device__ size_t TargetHere(size_t row) const {
    const size_t target = static_cast<size_t>(targets[row]);
    const bool is_here = target >= first_column && target - first_column < cols;
    return is_here ? target - first_column : cols;
  }
};

// NaN never wins, but makes its own exponential NaN and so the sum over the row.
__device__ inline float Larger(float value, float maximum) {
  return value > maximum ? value : maximum;
}

// In all threads of a block of kThreads.
template <unsigned kThreads>
__device__ float MaximumOfRow(const float* x, size_t n, float* of_warps) {
  float maximum = -INFINITY;
  for (size_t i = threadIdx.x; i < n; i += kThreads) maximum = Larger(x[i], maximum);
  for (int distance = 16; distance > 0; distance /= 2)
    maximum = Larger(__shfl_xor_sync(0xffffffffu, maximum, distance), maximum);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = maximum;
  __syncthreads();
  for (unsigned warp = 0; warp < kThreads / 32; ++warp) maximum = Larger(of_warps[warp], maximum);
  return maximum;
}

// In thread 0. A piece is half a warp's.
template <unsigned kThreads>
__device__ double SumOfExp(const float* x, float maximum, size_t n, float* of_pieces) {
  constexpr unsigned kPiecesAtOnce = kThreads / kSumLanes;
  const unsigned piece = threadIdx.x / kSumLanes, lane = threadIdx.x % kSumLanes;
  double total = 0;
  for (size_t first = 0; first < n; first += kPiecesAtOnce * kPiece) {
    const size_t begin = first + piece * kPiece;
    const size_t end = n - first < (piece + 1) * kPiece ? n : begin + kPiece;
    float sum = 0;
    for (size_t i = begin + lane; i < end; i += kSumLanes) sum += Exp(x[i] - maximum);
    sum = SumOfLanes(sum);
    if (lane == 0) of_pieces[piece] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (unsigned i = 0; i < kPiecesAtOnce && first + i * kPiece < n; ++i)
        total += static_cast<double>(of_pieces[i]);
    }
    __syncthreads();
  }
  return total;
}

template <unsigned kThreads>
__global__ void __launch_bounds__(kThreads)
    SoftmaxStatisticsKernel(Logits in, Output output, SoftmaxRow* rows) {
  __shared__ float of_warps[kThreads / 32];
  __shared__ float of_pieces[kThreads / kSumLanes];
  for (size_t row = blockIdx.x; row < in.rows; row += gridDim.x) {
    if (in.targets[row] < 0) {
      if (threadIdx.x == 0) rows[row] = {};
      continue;
    }
    const float* x = in.values.At(row, 0);
    SoftmaxRow result{0, MaximumOfRow<kThreads>(x, in.cols, of_warps), NAN};
    double before = 0;
    if (output == Output::kAccumulate) {
      const SoftmaxRow so_far = rows[row];
      result.maximum = Larger(result.maximum, so_far.maximum);
      result.target = so_far.target;
      before = so_far.sum * static_cast<double>(Exp(so_far.maximum - result.maximum));
    }
    const double here = SumOfExp<kThreads>(x, result.maximum, in.cols, of_pieces);
    if (threadIdx.x != 0) continue;
    result.sum = output == Output::kAccumulate ? before + here : here;
    const size_t target = in.TargetHere(row);
    if (target < in.cols) result.target = x[target];
    rows[row] = result;
  }
}

constexpr unsigned kGradientThreads = 256;

// Blocks of one row share what is the same in all of it.
template <typename G, size_t kPack>
__global__ void __launch_bounds__(kGradientThreads)
    CrossEntropyKernel(Logits in, const SoftmaxRow* rows, float gradient_scale, View<G> dlogits) {
  __shared__ float factors[1];
  const size_t first = (size_t{blockIdx.x} * kGradientThreads + threadIdx.x) * kPack;
  const size_t step = size_t{gridDim.x} * kGradientThreads * kPack;
  for (size_t row = blockIdx.y; row < in.rows; row += gridDim.y) {
    const bool is_counted = in.targets[row] >= 0;
    const SoftmaxRow softmax = rows[row];
    if (threadIdx.x == 0)
      factors[0] = static_cast<float>(static_cast<double>(gradient_scale) / softmax.sum);
    __syncthreads();
    const float factor = factors[0];
    const size_t target = is_counted ? in.TargetHere(row) : in.cols;
    for (size_t col = first; col < in.cols; col += step) {
      float values[kPack];
      LoadFloats(in.values.At(row, col), in.cols - col, values);
      for (size_t i = 0; i < kPack; ++i)
        values[i] = is_counted ? Exp(values[i] - softmax.maximum) * factor : 0.0f;
      if (target - col < kPack && target < in.cols) {
        // Again from its parts, so that the target's gradient too is rounded once.
        const double probability =
            static_cast<double>(Exp(softmax.target - softmax.maximum)) / softmax.sum;
        const double gradient = (probability - 1.0) * static_cast<double>(gradient_scale);
        for (size_t i = 0; i < kPack; ++i)
          values[i] = col + i == target ? static_cast<float>(gradient) : values[i];
      }
      StoreFloats(values, in.cols - col, dlogits.At(row, col));
    }
    __syncthreads();
  }
}

constexpr unsigned kLossThreads = 256;

__global__ void __launch_bounds__(kLossThreads)
    CrossEntropyLossKernel(const int32_t* targets, const SoftmaxRow* rows, size_t num_rows,
                           double* loss_sum) {
  __shared__ double losses[kLossThreads];
  double total = *loss_sum;
  for (size_t first = 0; first < num_rows; first += kLossThreads) {
    const size_t row = first + threadIdx.x;
    if (row < num_rows && targets[row] >= 0) {
      const float shifted = rows[row].target - rows[row].maximum;
      losses[threadIdx.x] = log(rows[row].sum) - static_cast<double>(shifted);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (unsigned i = 0; i < kLossThreads && first + i < num_rows; ++i) {
        if (targets[first + i] >= 0) total += losses[i];
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *loss_sum = total;
}

Logits LogitsOf(const Matrix& logits, std::span<const int32_t> targets, size_t first_column) {
  return {ViewOf<const float>(logits), targets.data(), first_column, logits.rows, logits.cols};
}

}  // namespace

Status SoftmaxStatistics(const Stream& stream, const Matrix& logits,
                         std::span<const int32_t> targets, size_t first_column, Output output,
                         std::span<SoftmaxRow> rows) {
  const Logits in = LogitsOf(logits, targets, first_column);
  const unsigned blocks = NumBlocks(logits.rows, 1);
  if (logits.cols <= 8 * kPiece)
    return Launch(&SoftmaxStatisticsKernel<128>, {.grid = blocks, .block = 128}, stream, in, output,
                  rows.data());
  return Launch(&SoftmaxStatisticsKernel<512>, {.grid = blocks, .block = 512}, stream, in, output,
                rows.data());
}

Status CrossEntropy(const Stream& stream, const Matrix& logits, std::span<const int32_t> targets,
                    size_t first_column, std::span<const SoftmaxRow> rows, float gradient_scale,
                    const Matrix& dlogits) {
  constexpr size_t kPack = 4, kPacksOfThread = 4;
  const Logits in = LogitsOf(logits, targets, first_column);
  return WithElementType(dlogits.dtype, [&]<typename G>(G) {
    return WithPackOf<kPack>({&logits, &dlogits}, [&]<size_t N>(std::integral_constant<size_t, N>) {
      const dim3 grid(NumBlocks(logits.cols, kGradientThreads * N * kPacksOfThread),
                      NumBlocks(logits.rows, 1, kMaxGridY));
      return Launch(&CrossEntropyKernel<G, N>, {.grid = grid, .block = kGradientThreads}, stream,
                    in, rows.data(), gradient_scale, ViewOf<G>(dlogits));
    });
  });
}

Status CrossEntropyLoss(const Stream& stream, std::span<const int32_t> targets,
                        std::span<const SoftmaxRow> rows, double* loss_sum) {
  if (rows.empty()) return OkStatus();
  return Launch(&CrossEntropyLossKernel, {.grid = 1, .block = kLossThreads}, stream, targets.data(),
                rows.data(), rows.size(), loss_sum);
}

}  // namespace strata::engine::cuda
