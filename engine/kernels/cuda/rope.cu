// Rotation by position. A block takes a row: its threads make the sines and cosines of a stretch of
// pairs once, then rotate those pairs in all heads. Bits are the host's: the angle is an fp32
// product, sine and cosine are the fp64 arithmetic of rows/functions.h, rounded once.
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr size_t kPairs = 128;  // of a head, per launch: they travel as arguments

struct Frequencies {
  float values[kPairs];
};

struct Rotation {
  size_t seq_len, head_dim;
  size_t first_pair, num_pairs;
  float cosine_factor, sine_factor;
};

template <typename T, size_t kPack>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(View<T> x, Rotation rotation, Frequencies frequencies, size_t rows, size_t cols) {
  __shared__ __align__(16) float sines[kPairs], cosines[kPairs];
  const unsigned num_pairs = static_cast<unsigned>(rotation.num_pairs);
  const unsigned packs_of_head = (num_pairs + kPack - 1) / kPack;
  const unsigned num_packs = static_cast<unsigned>(cols / rotation.head_dim) * packs_of_head;
  for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float position = static_cast<float>(row % rotation.seq_len);
    for (unsigned pair = threadIdx.x; pair < num_pairs; pair += kThreads) {
      const float angle = position * frequencies.values[pair];
      const SinCos both = SineAndCosine(static_cast<double>(angle));
      sines[pair] = static_cast<float>(both.sine) * rotation.sine_factor;
      cosines[pair] = static_cast<float>(both.cosine) * rotation.cosine_factor;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < num_packs; i += kThreads) {
      const size_t head = i / packs_of_head;
      const unsigned pair = i % packs_of_head * kPack;
      T* low = x.At(row, head * rotation.head_dim + rotation.first_pair + pair);
      T* high = low + rotation.head_dim / 2;
      const size_t count = num_pairs - pair;
      float a[kPack], b[kPack], rotated_a[kPack], rotated_b[kPack];
      LoadFloats(low, count, a);
      LoadFloats(high, count, b);
      for (unsigned j = 0; j < kPack; ++j) {
        const float sine = sines[pair + j], cosine = cosines[pair + j];
        rotated_a[j] = a[j] * cosine - b[j] * sine;
        rotated_b[j] = b[j] * cosine + a[j] * sine;
      }
      StoreFloats(rotated_a, count, low);
      StoreFloats(rotated_b, count, high);
    }
    __syncthreads();
  }
}

template <typename T>
Status RotatePairs(const Stream& stream, const Matrix& x, const Rotation& rotation,
                   const Frequencies& frequencies) {
  const auto launch = [&]<size_t N>(std::integral_constant<size_t, N>) {
    return Launch(&RopeKernel<T, N>, {.grid = NumBlocks(x.rows, 1), .block = kThreads}, stream,
                  ViewOf<T>(x), rotation, frequencies, x.rows, x.cols);
  };
  constexpr size_t kPack = kPackBytes / sizeof(T);
  if (rotation.head_dim / 2 % kPack != 0) return launch(std::integral_constant<size_t, 1>());
  return WithPackOf<kPack>({&x}, launch);
}

}  // namespace

Status Rope(const Stream& stream, const Matrix& x, size_t seq_len, size_t head_dim,
            std::span<const float> inverse_frequency, float attention_factor, int direction) {
  const float sine_factor = attention_factor * static_cast<float>(direction);
  for (size_t first = 0; first < head_dim / 2; first += kPairs) {
    const size_t count = std::min(kPairs, head_dim / 2 - first);
    Frequencies frequencies = {};
    std::copy_n(inverse_frequency.begin() + static_cast<ptrdiff_t>(first), count,
                frequencies.values);
    const Rotation rotation{seq_len, head_dim, first, count, attention_factor, sine_factor};
    STRATA_RETURN_IF_ERROR(WithElementType(
        x.dtype, [&]<typename T>(T) { return RotatePairs<T>(stream, x, rotation, frequencies); }));
  }
  return OkStatus();
}

}  // namespace strata::engine::cuda
