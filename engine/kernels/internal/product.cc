#include "engine/kernels/internal/product.h"

#include "aio/base/check.h"
#include "engine/kernels/internal/cpu_kernels.h"

namespace strata::engine {

Matrix ProductOperand::Part(size_t row, size_t rows, size_t col, size_t cols) const {
  return is_transposed() ? engine::Part(matrix, col, cols, row, rows)
                         : engine::Part(matrix, row, rows, col, cols);
}

void Multiplier::Run(const ProductOperand& a, const ProductOperand& b, const Matrix& out,
                     Output output) {
  STRATA_CHECK(a.matrix.dtype == b.matrix.dtype && out.dtype == DType::kF32);
  STRATA_CHECK(a.rows() == out.rows && b.cols() == out.cols && a.cols() == b.rows());
  const size_t needed_floats = kernels_->product_scratch_floats(out.rows, out.cols);
  if (scratch_.size() < needed_floats) scratch_.resize(needed_floats);
  kernels_->multiply_tile({.dtype = a.matrix.dtype,
                           .transpose_a = a.transpose,
                           .transpose_b = b.transpose,
                           .output = output,
                           .rows = out.rows,
                           .cols = out.cols,
                           .depth = a.cols(),
                           .stride_a = a.matrix.stride,
                           .stride_b = b.matrix.stride,
                           .stride_out = out.stride,
                           .a = a.matrix.data,
                           .b = b.matrix.data,
                           .out = reinterpret_cast<float*>(out.data),
                           .scratch = scratch_.data()});
}

}  // namespace strata::engine
