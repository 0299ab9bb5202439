// The steps that several units are made of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

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

// The products of linear layers, on a stream, with MatMulWorkspaceBytes() of workspace.
struct Products {
  Kernels& kernels;
  const Kernels::Stream& stream;
  std::span<std::byte> workspace;

  // y = x W^T, or += : a linear layer as PyTorch stores it.
  Status Linear(const Matrix& x, const Matrix& weight, const Matrix& y,
                Output output = Output::kOverwrite) const {
    return kernels.MatMul(stream, x, Transpose::kNo, weight, Transpose::kYes, y, output, workspace);
  }
  // dx = dy W, or +=.
  Status InputGradient(const Matrix& dy, const Matrix& weight, const Matrix& dx,
                       Output output) const {
    return kernels.MatMul(stream, dy, Transpose::kNo, weight, Transpose::kNo, dx, output,
                          workspace);
  }
  // dW += dy^T x.
  Status WeightGradient(const Matrix& dy, const Matrix& x, const Matrix& gradient) const {
    return kernels.MatMul(stream, dy, Transpose::kYes, x, Transpose::kNo, gradient,
                          Output::kAccumulate, workspace);
  }
};

// d += the gradient through norm(x), given dh = d(loss)/d(norm(x)) in fp32. It is rounded to the
// model's format in `narrow`, a buffer that is free by now.
inline Status NormBackward(Kernels& kernels, const Kernels::Stream& stream,
                           const Parameters& parameters, float eps, const Matrix& x,
                           const Matrix& dh, const Matrix& narrow, const Matrix& d,
                           std::span<std::byte> two_pass_workspace) {
  const bool is_narrow = dh.dtype != x.dtype;
  if (is_narrow) STRATA_RETURN_IF_ERROR(kernels.Cast(stream, dh, narrow));
  return kernels.RmsNormBackward(stream, x, parameters.norm(), eps, is_narrow ? narrow : dh, d,
                                 parameters.norm_gradient(), two_pass_workspace);
}

}  // namespace strata::engine
