// Matrix products of one tile on one thread, in fp32 and by our own kernels (rows/product.cc): each
// element of the output is one chain of fused multiply-adds along the depth, so that its bits
// depend on the values alone, not on tiles, threads or instruction sets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "aio/base/units.h"
#include "engine/kernels/internal/row_kernels.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

// A length cut into pieces of one size, the last one perhaps smaller.
struct Cuts {
  size_t total = 0;
  size_t piece = 0;

  size_t count() const { return CeilDiv(total, piece); }
  size_t begin(size_t i) const { return i * piece; }
  size_t size(size_t i) const { return std::min(piece, total - begin(i)); }
};

struct ProductOperand {
  const Matrix& matrix;
  Transpose transpose = Transpose::kNo;

  bool is_transposed() const { return transpose == Transpose::kYes; }
  size_t rows() const { return is_transposed() ? matrix.cols : matrix.rows; }
  size_t cols() const { return is_transposed() ? matrix.rows : matrix.cols; }
  // Its part that starts at (row, col), at most rows x cols.
  Matrix Part(size_t row, size_t rows, size_t col, size_t cols) const;
};

// One thread's means to multiply.
class Multiplier {
 public:
  // `kernels` outlives it.
  explicit Multiplier(const RowKernels& kernels) : kernels_(&kernels) {}

  // out (fp32) = or += a * b.
  void Run(const ProductOperand& a, const ProductOperand& b, const Matrix& out, Output output);

 private:
  const RowKernels* kernels_;
  std::vector<float> scratch_;  // grows to the largest tile's need, 1 MiB
};

}  // namespace strata::engine
