#include <cmath>

#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"

namespace strata::engine::STRATA_ISA {
namespace {

template <typename T>
float InverseRms(const T* x, size_t n, float eps) {
  const Lanes squares = SumLanes(n, [x](size_t i, size_t count) {
    const Lanes value = LoadLanes(x + i, count);
    return value * value;
  });
  return 1.0f / std::sqrt(SumOf(squares) / static_cast<float>(n) + eps);
}

template <typename T>
void ForwardRow(const T* __restrict x, const T* __restrict weight, float inverse_rms,
                T* __restrict y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    y[i] = FromFloat<T>(ToFloat(x[i]) * inverse_rms * ToFloat(weight[i]));
  }
}

// The mean over the row of dy * weight * x * inverse_rms.
template <typename T>
float MeanProjection(const T* x, const T* weight, const T* dy, float inverse_rms, size_t n) {
  const Lanes dot = SumLanes(n, [=](size_t i, size_t count) {
    return LoadLanes(dy + i, count) * LoadLanes(weight + i, count) * LoadLanes(x + i, count);
  });
  return SumOf(dot) * inverse_rms / static_cast<float>(n);
}

template <typename T, typename G>
void BackwardRow(const T* __restrict x, const T* __restrict weight, const T* __restrict dy,
                 float inverse_rms, G* __restrict dx, size_t n) {
  const float projection = MeanProjection(x, weight, dy, inverse_rms, n);
  for (size_t i = 0; i < n; ++i) {
    const float normalised = ToFloat(x[i]) * inverse_rms;
    const float upstream = ToFloat(dy[i]) * ToFloat(weight[i]);
    dx[i] = FromFloat<G>(ToFloat(dx[i]) + inverse_rms * (upstream - normalised * projection));
  }
}

}  // namespace

void RmsNormForwardRows(const RmsNormRows& in, const Matrix& y) {
  WithElementType(in.x.dtype, [&]<typename T>(T) {
    const T* weight = reinterpret_cast<const T*>(in.weight);
    for (size_t row = 0; row < in.x.rows; ++row) {
      const T* x = RowOf<const T>(in.x, row);
      ForwardRow(x, weight, InverseRms(x, in.x.cols, in.eps), RowOf<T>(y, row), in.x.cols);
    }
  });
}

void RmsNormBackwardRows(const RmsNormRows& in, const Matrix& dy, const Matrix& dx,
                         float* inverse_rms) {
  WithElementType(in.x.dtype, [&]<typename T>(T) {
    WithElementType(dx.dtype, [&]<typename G>(G) {
      const T* weight = reinterpret_cast<const T*>(in.weight);
      for (size_t row = 0; row < in.x.rows; ++row) {
        const T* x = RowOf<const T>(in.x, row);
        inverse_rms[row] = InverseRms(x, in.x.cols, in.eps);
        BackwardRow(x, weight, RowOf<const T>(dy, row), inverse_rms[row], RowOf<G>(dx, row),
                    in.x.cols);
      }
    });
  });
}

void RmsNormWeightGradientRows(const Matrix& x, const Matrix& dy, const float* inverse_rms,
                               float* weight_gradient) {
  WithElementType(x.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < x.rows; ++row) {
      const T* __restrict x_row = RowOf<const T>(x, row);
      const T* __restrict dy_row = RowOf<const T>(dy, row);
      float* __restrict sum = weight_gradient;
      for (size_t i = 0; i < x.cols; ++i) {
        sum[i] += ToFloat(dy_row[i]) * (ToFloat(x_row[i]) * inverse_rms[row]);
      }
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
