// The gated activation. Bits are the host's: the same exponential (rows/functions.h) in the same
// arithmetic.
#include "engine/kernels/cuda/for_packs.h"
#include "engine/kernels/cuda/row_operations.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::cuda {
namespace {

struct SwiGlu {
  __device__ float operator()(float gate, float up) const { return gate * Sigmoid(gate) * up; }
};

template <typename T>
struct SwiGluGradientOp {
  static constexpr size_t kPack = kPackBytes / sizeof(T);
  View<const T> gate, up, dout;
  View<T> dgate, dup;

  template <size_t N>
  __device__ void Run(size_t row, size_t col, size_t count) const {
    float g[N], u[N], d[N];
    LoadFloats(gate.At(row, col), count, g);
    LoadFloats(up.At(row, col), count, u);
    LoadFloats(dout.At(row, col), count, d);
    for (size_t i = 0; i < N; ++i) {
      const float s = Sigmoid(g[i]);
      const float of_gate = d[i] * u[i] * (s * (1.0f + g[i] * (1.0f - s)));
      u[i] = d[i] * (g[i] * s);
      g[i] = of_gate;
    }
    StoreFloats(g, count, dgate.At(row, col));
    StoreFloats(u, count, dup.At(row, col));
  }
};

}  // namespace

Status SwiGluForward(const Stream& stream, const Matrix& gate, const Matrix& up,
                     const Matrix& out) {
  return ForTwo<SwiGlu>(stream, gate, up, out);
}

Status SwiGluBackward(const Stream& stream, const Matrix& gate, const Matrix& up,
                      const Matrix& dout, const Matrix& dgate, const Matrix& dup) {
  return WithElementType(gate.dtype, [&]<typename T>(T) {
    const SwiGluGradientOp<T> op{ViewOf<const T>(gate), ViewOf<const T>(up), ViewOf<const T>(dout),
                                 ViewOf<T>(dgate), ViewOf<T>(dup)};
    return ForPacks(stream, {&gate, &up, &dout, &dgate, &dup}, op);
  });
}

}  // namespace strata::engine::cuda
