// Operands of products, and products in plain loops.
#pragma once

#include <array>
#include <utility>

#include "tests/engine/kernels/bounded.h"

namespace strata::engine {

struct Case {
  size_t rows, cols, depth;
};

inline double Element(const TestMatrix& matrix, Transpose transpose, size_t row, size_t col) {
  return transpose == Transpose::kNo ? matrix.Get(row, col) : matrix.Get(col, row);
}

// out_dtype: of what the product is rounded to.
inline Bounded Multiply(const TestMatrix& a, Transpose transpose_a, const TestMatrix& b,
                        Transpose transpose_b, Case size, DType out_dtype) {
  Bounded product(size.rows * size.cols);
  for (size_t i = 0; i < size.rows; ++i) {
    for (size_t j = 0; j < size.cols; ++j) {
      double sum = 0, absolute = 0;
      for (size_t k = 0; k < size.depth; ++k) {
        const double term = Element(a, transpose_a, i, k) * Element(b, transpose_b, k, j);
        sum += term;
        absolute += std::abs(term);
      }
      product.values[i * size.cols + j] = sum;
      product.bounds[i * size.cols + j] =
          absolute * static_cast<double>(size.depth) * kSumError + RoundingError(out_dtype, sum);
    }
  }
  return product;
}

inline TestMatrix Operand(uint32_t seed, DType dtype, Transpose transpose, size_t rows,
                          size_t cols) {
  if (transpose == Transpose::kYes) std::swap(rows, cols);
  return Random(seed, dtype, rows, cols, seed % 3);
}

inline constexpr std::array kTransposes = {Transpose::kNo, Transpose::kYes};

}  // namespace strata::engine
