// What one thread does to one tile of rows: the element-wise and row-wise kernels, a table of them
// per instruction set. Matrices here are parts of the caller's, small enough for one tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/kernels/isa.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

struct RmsNormRows {
  Matrix x;
  const std::byte* weight = nullptr;
  float eps = 0;
};

struct RopeRows {
  Matrix x;
  size_t first_position = 0;  // of x's first row; before the modulo
  size_t seq_len = 0;
  size_t head_dim = 0;
  const float* inverse_frequency = nullptr;
  float attention_factor = 1;
  float sign = 1;
};

// Some columns of logits, from first_column on.
struct LogitRows {
  Matrix logits;
  const int32_t* targets = nullptr;  // of the whole rows; negative: not counted
  size_t first_column = 0;
};

// One tile of attention scores: queries are rows, keys are columns. Row r sees the columns up to
// and including r + diagonal.
struct ScoreTile {
  const float* scores = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;
  ptrdiff_t diagonal = 0;
  float scale = 0;

  size_t VisibleCols(size_t row) const {
    const ptrdiff_t visible = static_cast<ptrdiff_t>(row) + diagonal + 1;
    return visible <= 0                          ? 0
           : static_cast<size_t>(visible) < cols ? static_cast<size_t>(visible)
                                                 : cols;
  }
};

// The running softmax of a tile of queries.
struct RunningSoftmax {
  float* maximum = nullptr;  // per row, of the scaled scores so far
  float* sum = nullptr;      // per row, of exp(score - maximum)
  float* out = nullptr;      // [rows, head_dim], not yet divided by the sum
  size_t head_dim = 0;
};

// out [rows, cols] = or += op(a) [rows, depth] * op(b) [depth, cols]; out is fp32.
struct ProductTile {
  DType dtype = DType::kF32;  // of a and b
  Transpose transpose_a = Transpose::kNo;
  Transpose transpose_b = Transpose::kNo;
  Output output = Output::kOverwrite;
  size_t rows = 0, cols = 0, depth = 0;
  size_t stride_a = 0, stride_b = 0, stride_out = 0;
  const std::byte *a = nullptr, *b = nullptr;
  float* out = nullptr;
  float* scratch = nullptr;  // product_scratch_floats(rows, cols)
};

struct RowKernels {
  // Each element of the output is one chain of fused multiply-adds along the depth, in its order.
  void (*multiply_tile)(const ProductTile& tile);
  size_t (*product_scratch_floats)(size_t rows, size_t cols);
  void (*rms_norm_forward)(const RmsNormRows& in, const Matrix& y);
  // Writes 1 / rms of each row to inverse_rms.
  void (*rms_norm_backward)(const RmsNormRows& in, const Matrix& dy, const Matrix& dx,
                            float* inverse_rms);
  // weight_gradient[c] += sum over rows of dy * x * inverse_rms, for the columns of x.
  void (*rms_norm_weight_gradient)(const Matrix& x, const Matrix& dy, const float* inverse_rms,
                                   float* weight_gradient);
  void (*rope)(const RopeRows& in);
  void (*swiglu_forward)(const Matrix& gate, const Matrix& up, const Matrix& out);
  void (*swiglu_backward)(const Matrix& gate, const Matrix& up, const Matrix& dout,
                          const Matrix& dgate, const Matrix& dup);
  void (*softmax_statistics)(const LogitRows& in, Output output, SoftmaxRow* rows);
  void (*cross_entropy)(const LogitRows& in, const SoftmaxRow* rows, float gradient_scale,
                        const Matrix& dlogits);
  void (*add)(const Matrix& a, const Matrix& b, const Matrix& out);
  void (*cast)(const Matrix& from, const Matrix& to);
  // Element i is added to sum i % 16, the sums then as a tree.
  double (*sum_of_squares)(const std::byte* x, DType dtype, size_t n);
  // The same of x rounded to dtype, which it writes.
  double (*round_and_sum_squares)(const float* x, std::byte* rounded, DType dtype, size_t n);
  // to[ids[row] - first_id] += from[row], in ascending order of rows, where `to` has that row.
  void (*scatter_add)(const int32_t* ids, size_t first_id, const Matrix& from, const Matrix& to);

  // probabilities = exp(score * scale - running maximum), zero where not visible; brings what was
  // summed before to the new maximum.
  void (*softmax_tile)(const ScoreTile& tile, const Matrix& probabilities,
                       const RunningSoftmax& running);
  // out = running.out / sum; log_sum_exp = maximum + log(sum).
  void (*softmax_finish)(const RunningSoftmax& running, const Matrix& out, float* log_sum_exp);
  // dots[row] = sum of a * b.
  void (*row_dots)(const Matrix& a, const Matrix& b, float* dots);
  // probabilities as the forward had them; dscores = probabilities * (dprobabilities - dots) *
  // scale.
  void (*softmax_backward_tile)(const ScoreTile& tile, const float* dprobabilities,
                                const float* log_sum_exp, const float* dots,
                                const Matrix& probabilities, const Matrix& dscores);
};

// nullptr if there is no such instruction set in this build.
const RowKernels* FindRowKernels(std::string_view instruction_set);

}  // namespace strata::engine
