// The steps that several units are made of.
#pragma once

#include <algorithm>
#include <cstddef>

#include "engine/kernels/kernels.h"
#include "engine/model/internal/parameters.h"

namespace strata::engine {

// Rows [first, first + count) of a matrix, all of which it has.
inline Matrix RowRange(const Matrix& matrix, size_t first, size_t count) {
  Matrix rows = matrix;
  rows.data += first * matrix.stride * SizeOf(matrix.dtype);
  rows.rows = count;
  return rows;
}

// y = x W^T: a linear layer as PyTorch stores it.
inline Status Linear(Kernels& kernels, const Kernels::Stream& stream, const Matrix& x,
                     const Matrix& weight, const Matrix& y) {
  return kernels.MatMul(stream, x, Transpose::kNo, weight, Transpose::kYes, y, Output::kOverwrite);
}
// dx = dy W, or +=.
inline Status LinearInputGradient(Kernels& kernels, const Kernels::Stream& stream, const Matrix& dy,
                                  const Matrix& weight, const Matrix& dx, Output output) {
  return kernels.MatMul(stream, dy, Transpose::kNo, weight, Transpose::kNo, dx, output);
}
// dW += dy^T x.
inline Status LinearWeightGradient(Kernels& kernels, const Kernels::Stream& stream,
                                   const Matrix& dy, const Matrix& x, const Matrix& gradient) {
  return kernels.MatMul(stream, dy, Transpose::kYes, x, Transpose::kNo, gradient,
                        Output::kAccumulate);
}

// d += the gradient through norm(x), given dh = d(loss)/d(norm(x)) in fp32. It is rounded to the
// model's format in `narrow`, a buffer that is free by now.
inline Status NormBackward(Kernels& kernels, const Kernels::Stream& stream,
                           const Parameters& parameters, float eps, const Matrix& x,
                           const Matrix& dh, const Matrix& narrow, const Matrix& d) {
  const bool is_narrow = dh.dtype != x.dtype;
  if (is_narrow) STRATA_RETURN_IF_ERROR(kernels.Cast(stream, dh, narrow));
  return kernels.RmsNormBackward(stream, x, parameters.norm(), eps, is_narrow ? narrow : dh, d,
                                 parameters.norm_gradient());
}

}  // namespace strata::engine
