#include <algorithm>
#include <cmath>

#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"
#include "engine/kernels/rows/functions.h"

namespace strata::engine::STRATA_ISA {
namespace {

float Sum(const float* x, size_t n) {
  return SumOf(SumLanes(n, [x](size_t i, size_t count) { return LoadLanes(x + i, count); }));
}

// Rows of tiles are handled in pieces that fit the stack and the first-level cache.
constexpr size_t kPiece = 512;

// Returns the sum of the row's exponentials before they are rounded to T.
template <typename T>
float ExpRow(const float* scores, float scale, float maximum, T* out, size_t n) {
  float sum = 0;
  float exps[kPiece];
  for (size_t first = 0; first < n; first += kPiece) {
    const size_t count = std::min(kPiece, n - first);
    for (size_t i = 0; i < count; ++i) exps[i] = Exp(scores[first + i] * scale - maximum);
    for (size_t i = 0; i < count; ++i) out[first + i] = FromFloat<T>(exps[i]);
    sum += Sum(exps, count);
  }
  return sum;
}

void Scale(float* x, float factor, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] *= factor;
}

template <typename T>
void SoftmaxTileRow(const ScoreTile& tile, size_t row, T* out, const RunningSoftmax& running) {
  const size_t visible = tile.VisibleCols(row);
  std::fill(out + visible, out + tile.cols, FromFloat<T>(0.0f));
  if (visible == 0) return;
  const float* scores = tile.scores + row * tile.stride;
  const float before = running.maximum[row];
  const float here = Maximum(scores, visible) * tile.scale;
  const float maximum = here > before ? here : before;
  const float sum = ExpRow(scores, tile.scale, maximum, out, visible);
  const float shrink = Exp(before - maximum);
  running.maximum[row] = maximum;
  running.sum[row] = running.sum[row] * shrink + sum;
  if (shrink != 1.0f) Scale(running.out + row * running.head_dim, shrink, running.head_dim);
}

template <typename T>
void BackwardRow(const float* scores, const float* dprobabilities, float scale, float log_sum_exp,
                 float dot, T* probabilities, T* dscores, size_t n) {
#pragma GCC ivdep  // the outputs may be the inputs
  for (size_t i = 0; i < n; ++i) {
    const float p = Exp(scores[i] * scale - log_sum_exp);
    const float dp = dprobabilities[i];
    probabilities[i] = FromFloat<T>(p);
    dscores[i] = FromFloat<T>(p * (dp - dot) * scale);
  }
}

}  // namespace

void SoftmaxTileRows(const ScoreTile& tile, const Matrix& probabilities,
                     const RunningSoftmax& running) {
  WithElementType(probabilities.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < tile.rows; ++row) {
      SoftmaxTileRow(tile, row, RowOf<T>(probabilities, row), running);
    }
  });
}

void SoftmaxFinishRows(const RunningSoftmax& running, const Matrix& out, float* log_sum_exp) {
  WithElementType(out.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < out.rows; ++row) {
      const float* from = running.out + row * running.head_dim;
      T* to = RowOf<T>(out, row);
      const float factor = 1.0f / running.sum[row];
      for (size_t i = 0; i < out.cols; ++i) to[i] = FromFloat<T>(from[i] * factor);
      log_sum_exp[row] = running.maximum[row] +
                         static_cast<float>(std::log(static_cast<double>(running.sum[row])));
    }
  });
}

void DotRows(const Matrix& a, const Matrix& b, float* dots) {
  WithElementType(a.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < a.rows; ++row) {
      const T* x = RowOf<const T>(a, row);
      const T* y = RowOf<const T>(b, row);
      dots[row] = SumOf(SumLanes(a.cols, [=](size_t i, size_t count) {
        return LoadLanes(x + i, count) * LoadLanes(y + i, count);
      }));
    }
  });
}

void SoftmaxBackwardTileRows(const ScoreTile& tile, const float* dprobabilities,
                             const float* log_sum_exp, const float* dots,
                             const Matrix& probabilities, const Matrix& dscores) {
  WithElementType(probabilities.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < tile.rows; ++row) {
      const size_t visible = tile.VisibleCols(row);
      T* p = RowOf<T>(probabilities, row);
      T* ds = RowOf<T>(dscores, row);
      BackwardRow(tile.scores + row * tile.stride, dprobabilities + row * tile.stride, tile.scale,
                  log_sum_exp[row], dots[row], p, ds, visible);
      std::fill(p + visible, p + tile.cols, FromFloat<T>(0.0f));
      std::fill(ds + visible, ds + tile.cols, FromFloat<T>(0.0f));
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
