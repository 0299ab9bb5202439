// Sums and casts of elements. Bits are the host's (but which of its patterns a NaN has).
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"

namespace strata::engine::cuda {
namespace {

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

template <typename From, typename To>
struct CastOp {
  static constexpr size_t kPack = kPackBytes / std::min(sizeof(From), sizeof(To));
  View<const From> from;
  View<To> to;

  template <size_t N>
  __device__ void Run(size_t row, size_t col, size_t count) const {
    float x[N];
    LoadFloats(from.At(row, col), count, x);
    StoreFloats(x, count, to.At(row, col));
  }
};

}  // namespace

Status Add(const Stream& stream, const Matrix& a, const Matrix& b, const Matrix& out) {
  return ForTwo<Sum>(stream, a, b, out);
}

Status Cast(const Stream& stream, const Matrix& from, const Matrix& to) {
  return WithElementType(from.dtype, [&]<typename From>(From) {
    return WithElementType(to.dtype, [&]<typename To>(To) {
      const CastOp<From, To> op{ViewOf<const From>(from), ViewOf<To>(to)};
      return ForPacks(stream, {&from, &to}, op);
    });
  });
}

}  // namespace strata::engine::cuda
