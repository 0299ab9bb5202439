#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::STRATA_ISA {
namespace {

template <typename T>
void ForwardRow(const T* gate, const T* up, T* out, size_t n) {
#pragma GCC ivdep  // out may be an input: then element i is read before it is written
  for (size_t i = 0; i < n; ++i) {
    const float g = ToFloat(gate[i]);
    out[i] = FromFloat<T>(g * Sigmoid(g) * ToFloat(up[i]));
  }
}

template <typename T>
void BackwardRow(const T* gate, const T* up, const T* dout, T* dgate, T* dup, size_t n) {
#pragma GCC ivdep  // the outputs may be the inputs
  for (size_t i = 0; i < n; ++i) {
    const float g = ToFloat(gate[i]);
    const float u = ToFloat(up[i]);
    const float d = ToFloat(dout[i]);
    const float s = Sigmoid(g);
    dgate[i] = FromFloat<T>(d * u * (s * (1.0f + g * (1.0f - s))));
    dup[i] = FromFloat<T>(d * (g * s));
  }
}

}  // namespace

void SwiGluForwardRows(const Matrix& gate, const Matrix& up, const Matrix& out) {
  WithElementType(gate.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < gate.rows; ++row) {
      ForwardRow(RowOf<const T>(gate, row), RowOf<const T>(up, row), RowOf<T>(out, row), gate.cols);
    }
  });
}

void SwiGluBackwardRows(const Matrix& gate, const Matrix& up, const Matrix& dout,
                        const Matrix& dgate, const Matrix& dup) {
  WithElementType(gate.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < gate.rows; ++row) {
      BackwardRow(RowOf<const T>(gate, row), RowOf<const T>(up, row), RowOf<const T>(dout, row),
                  RowOf<T>(dgate, row), RowOf<T>(dup, row), gate.cols);
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
