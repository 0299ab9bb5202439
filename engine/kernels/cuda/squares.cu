// Sums of squares in the order of the host's (sum_of_squares.cc), so that the bits are the same:
// pieces of 65536 elements, in each of them element i goes to sum i % 16, the sixteen as a tree;
// the pieces one after the other.
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"
#include "engine/kernels/cuda/row_sums.h"

namespace strata::engine::cuda {
namespace {

constexpr size_t kPiece = 65536;
constexpr unsigned kThreads = 128;

template <typename T>
struct PlainSquares {
  static constexpr size_t kPack = kPackBytes / sizeof(T);
  const T* numbers;

  template <size_t N>
  __device__ void Run(size_t first, size_t count, double (&squares)[N]) const {
    float values[N];
    LoadFloats(numbers + first, count, values);
    for (size_t i = 0; i < N; ++i)
      squares[i] = static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
};

template <typename T>
struct RoundedSquares {
  static constexpr size_t kPack = kPackBytes / sizeof(T);
  const float* from;
  T* to;

  template <size_t N>
  __device__ void Run(size_t first, size_t count, double (&squares)[N]) const {
    float values[N];
    LoadFloats(from + first, count, values);
    for (size_t i = 0; i < N; ++i) values[i] = ToFloat(FromFloat<T>(values[i]));
    StoreFloats(values, count, to + first);
    for (size_t i = 0; i < N; ++i)
      squares[i] = static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
};

// The squares of one piece.
template <typename Op, size_t kPack>
struct PieceTerms {
  Op op;
  size_t begin, size;

  __device__ void operator()(size_t at, double (&values)[1][kPack]) const {
    op.Run(begin + at, size > at ? size - at : 0, values[0]);
  }
};

// Sums of `num_pieces` pieces from number `first_piece` on.
template <typename Op, size_t kPack>
__global__ void __launch_bounds__(kThreads)
    SumPiecesKernel(Op op, size_t first_piece, size_t num_pieces, size_t num_elements,
                    double* piece_sums) {
  using Sums = RowSums<double, kThreads, 1, kPack>;
  __shared__ typename Sums::Shared shared;
  for (size_t piece = blockIdx.x; piece < num_pieces; piece += gridDim.x) {
    const size_t begin = (first_piece + piece) * kPiece;
    const size_t left = num_elements - begin;
    const size_t size = left < kPiece ? left : kPiece;
    double sum[1];
    Sums(shared).Run(size, PieceTerms<Op, kPack>{op, begin, size}, sum);
    if (threadIdx.x == 0) piece_sums[piece] = sum[0];
  }
}

constexpr unsigned kTotalThreads = 256;

// *total = or += the pieces' sums in their order.
__global__ void __launch_bounds__(kTotalThreads)
    AddPiecesKernel(const double* piece_sums, size_t num_pieces, Output output, double* total) {
  __shared__ double staged[kTotalThreads];
  double sum = output == Output::kOverwrite ? 0.0 : *total;
  for (size_t first = 0; first < num_pieces; first += kTotalThreads) {
    if (first + threadIdx.x < num_pieces) staged[threadIdx.x] = piece_sums[first + threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
      for (unsigned i = 0; i < kTotalThreads && first + i < num_pieces; ++i) sum += staged[i];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *total = sum;
}

// In rounds of as many pieces as there is memory for.
template <size_t kPack, typename Op>
Status SumInRounds(const Stream& stream, const Op& op, size_t num_elements, double* squares,
                   std::span<double> piece_sums) {
  const size_t num_pieces = (num_elements + kPiece - 1) / kPiece;
  size_t first = 0;
  do {
    const size_t count = std::min(num_pieces - first, piece_sums.size());
    STRATA_RETURN_IF_ERROR(Launch(&SumPiecesKernel<Op, kPack>,
                                  {.grid = NumBlocks(count, 1), .block = kThreads}, stream, op,
                                  first, count, num_elements, piece_sums.data()));
    const Output output = first == 0 ? Output::kOverwrite : Output::kAccumulate;
    STRATA_RETURN_IF_ERROR(Launch(&AddPiecesKernel, {.grid = 1, .block = kTotalThreads}, stream,
                                  piece_sums.data(), count, output, squares));
    first += count;
  } while (first < num_pieces);
  return OkStatus();
}

Matrix AsRow(const void* numbers, DType dtype, size_t count) {
  return DenseMatrix(static_cast<std::byte*>(const_cast<void*>(numbers)), dtype, 1, count);
}

}  // namespace

Status RoundAndSumSquares(const Stream& stream, std::span<const float> from, std::byte* to,
                          DType dtype, double* squares, std::span<double> piece_sums) {
  const Matrix inputs = AsRow(from.data(), DType::kF32, from.size());
  const Matrix outputs = AsRow(to, dtype, from.size());
  return WithElementType(dtype, [&]<typename T>(T) {
    const RoundedSquares<T> op{from.data(), reinterpret_cast<T*>(to)};
    return WithPackOf<op.kPack>(
        {&inputs, &outputs}, [&]<size_t N>(std::integral_constant<size_t, N>) {
          return SumInRounds<N>(stream, op, from.size(), squares, piece_sums);
        });
  });
}

Status SumOfSquares(const Stream& stream, std::span<const std::byte> numbers, DType dtype,
                    double* squares, std::span<double> piece_sums) {
  const size_t count = numbers.size() / SizeOf(dtype);
  const Matrix inputs = AsRow(numbers.data(), dtype, count);
  return WithElementType(dtype, [&]<typename T>(T) {
    const PlainSquares<T> op{reinterpret_cast<const T*>(numbers.data())};
    return WithPackOf<op.kPack>({&inputs}, [&]<size_t N>(std::integral_constant<size_t, N>) {
      return SumInRounds<N>(stream, op, count, squares, piece_sums);
    });
  });
}

}  // namespace strata::engine::cuda
