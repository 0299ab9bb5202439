// The small set of operations that the models are written in.
//
// Two implementations: the host's cores (cpu_kernels.h) and an NVIDIA GPU (cuda_kernels.h), which
// has the bits of the first but for products, attention and the loss (docs/decisions/0039). All
// work on memory of their device, take the stream they run on, keep nothing between calls that
// shows, allocate no device memory (what they need comes as workspace), and give the same bits for
// the same arguments whatever the number of threads, or on one kind of GPU: work is cut into tiles
// by shape alone, and reductions have a fixed order.
//
// Matrices are row-major; a row is `stride` elements from the next. "accumulate" means += into the
// output. Element formats: fp32, bf16 and fp16 for activations and weights, fp32 for weight
// gradients; sums are in fp32 (statistics in fp64 where said).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"
#include "tiering/device.h"

namespace strata::engine {

struct Matrix {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;  // elements

  size_t size_bytes() const { return rows * stride * SizeOf(dtype); }
};
// A dense matrix on `data`.
inline Matrix DenseMatrix(std::byte* data, DType dtype, size_t rows, size_t cols) {
  return {data, dtype, rows, cols, cols};
}

enum class Transpose : uint8_t { kNo, kYes };
enum class Output : uint8_t { kOverwrite, kAccumulate };

// Causal attention over packed rows: token t of sequence b is row b * seq_len + t. q and out have
// num_heads * head_dim columns, k and v num_kv_heads * head_dim; query head h reads key-value head
// h / (num_heads / num_kv_heads). Scores are scaled by 1 / sqrt(head_dim).
struct AttentionShape {
  size_t batch = 0;
  size_t seq_len = 0;
  size_t num_heads = 0;
  size_t num_kv_heads = 0;
  size_t head_dim = 0;
};

// Of one row of logits, over the columns seen so far.
struct SoftmaxRow {
  double sum = 0;     // of exp(logit - maximum)
  float maximum = 0;  // logit
  float target = 0;   // the target's logit; not a number until it was seen
};

// How many rows a call is best given at most, where a model may cut its rows: the more, the fewer
// passes over the fp32 gradients of weights, and the more workspace. The order of sums, and so the
// bits, hang on it: it depends on the kernels alone.
struct RowsAtOnce {
  size_t rows = 0;             // of a layer's products
  uint64_t logits_bytes = 0;   // of all there is of the logits of some rows, but
  size_t min_logits_rows = 0;  // this many rows at least
};

class Kernels {
 public:
  using Stream = tiering::StreamContext;
  virtual ~Kernels() = default;

  virtual RowsAtOnce rows_at_once() const = 0;

  // out = op(a) * op(b), or += . a and b have one dtype, out is fp32 or, to overwrite only, of that
  // dtype (on the host's cores: of any). Summed in fp32, of fp32 operands in full: no TF32. Rounded
  // once: on the host's cores as Cast() does, on CUDA to nearest even, which differs for ties
  // (docs/decisions/0040). The workspace is aligned to 256 bytes; nothing in it need survive a
  // call.
  virtual size_t MatMulWorkspaceBytes() const = 0;
  virtual Status MatMul(const Stream& stream, const Matrix& a, Transpose transpose_a,
                        const Matrix& b, Transpose transpose_b, const Matrix& out, Output output,
                        std::span<std::byte> workspace) = 0;

  // y = x / sqrt(mean(x^2) + eps) * weight, row by row (Zhang & Sennrich 2019). x and y have one
  // dtype, weight [cols] too. Statistics in fp32; rounded once, at the end.
  virtual Status RmsNormForward(const Stream& stream, const Matrix& x, const std::byte* weight,
                                float eps, const Matrix& y) = 0;
  // dx += d(loss)/dx for the dy given; weight_gradient (fp32 [cols]) += . The row order of the sum
  // into weight_gradient is fixed. dx is fp32 or of x's dtype. The workspace is that of
  // TwoPassWorkspaceBytes().
  virtual Status RmsNormBackward(const Stream& stream, const Matrix& x, const std::byte* weight,
                                 float eps, const Matrix& dy, const Matrix& dx,
                                 float* weight_gradient, std::span<std::byte> workspace) = 0;
  // For what the first pass of an operation leaves to the second. Aligned to 64 bytes; nothing in
  // it need survive a call.
  virtual size_t TwoPassWorkspaceBytes() const = 0;

  // Rotates pairs (i, i + head_dim / 2) of each head in place (Su et al. 2021, the half-split
  // layout of Hugging Face's Llama) by angle position * inverse_frequency[i]; position is
  // row % seq_len. direction +1 rotates, -1 undoes (the backward). inverse_frequency is fp32
  // [head_dim / 2] in host memory, and not read after the call.
  virtual Status Rope(const Stream& stream, const Matrix& x, size_t seq_len, size_t head_dim,
                      std::span<const float> inverse_frequency, float attention_factor,
                      int direction) = 0;

  // Softmax attention without seq x seq in memory: tiles of keys with a running maximum (Dao et
  // al. 2022). log_sum_exp: fp32 [num_heads, rows], what the backward needs. In formats
  // of 16 bits, probabilities and the gradients of scores are rounded to them before they enter a
  // product; all sums are fp32. The workspace is aligned to 64 bytes; nothing in it need survive a
  // call.
  virtual size_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) const = 0;
  virtual Status AttentionForward(const Stream& stream, const AttentionShape& shape,
                                  const Matrix& q, const Matrix& k, const Matrix& v,
                                  const Matrix& out, float* log_sum_exp,
                                  std::span<std::byte> workspace) = 0;
  // Overwrites dq, dk, dv (dtype of q).
  virtual Status AttentionBackward(const Stream& stream, const AttentionShape& shape,
                                   const Matrix& q, const Matrix& k, const Matrix& v,
                                   const Matrix& out, const float* log_sum_exp, const Matrix& dout,
                                   const Matrix& dq, const Matrix& dk, const Matrix& dv,
                                   std::span<std::byte> workspace) = 0;

  // out = silu(gate) * up (Shazeer 2020).
  virtual Status SwiGluForward(const Stream& stream, const Matrix& gate, const Matrix& up,
                               const Matrix& out) = 0;
  // dgate and dup may be gate and up themselves (in place).
  virtual Status SwiGluBackward(const Stream& stream, const Matrix& gate, const Matrix& up,
                                const Matrix& dout, const Matrix& dgate, const Matrix& dup) = 0;

  // Softmax and cross entropy over a vocabulary that may be seen piece by piece (Milakov &
  // Gimelshein 2018): `logits` are fp32 columns [first_column, first_column + cols) of each row.
  // Statistics first, of all pieces in ascending order (kOverwrite for the first), then the
  // gradients of the pieces, in any order. A negative target is not counted.
  virtual Status SoftmaxStatistics(const Stream& stream, const Matrix& logits,
                                   std::span<const int32_t> targets, size_t first_column,
                                   Output output, std::span<SoftmaxRow> rows) = 0;
  // dlogits = (softmax - onehot) * gradient_scale (any format; may be the logits' own memory if
  // fp32), zero where the target is not counted.
  virtual Status CrossEntropy(const Stream& stream, const Matrix& logits,
                              std::span<const int32_t> targets, size_t first_column,
                              std::span<const SoftmaxRow> rows, float gradient_scale,
                              const Matrix& dlogits) = 0;
  // *loss_sum (fp64, one number in device memory) += sum over rows of -log softmax(logits)[target].
  virtual Status CrossEntropyLoss(const Stream& stream, std::span<const int32_t> targets,
                                  std::span<const SoftmaxRow> rows, double* loss_sum) = 0;

  // `table` holds the rows of ids [first_id, first_id + table.rows): out[row] = that of ids[row],
  // where it is among them; other rows of `out` are left alone. ids in device memory, none
  // negative.
  virtual Status EmbeddingForward(const Stream& stream, const Matrix& table, size_t first_id,
                                  std::span<const int32_t> ids, const Matrix& out) = 0;
  // table_gradient (fp32), of such rows: that of ids[row] += dout[row], rows in ascending order.
  virtual Status EmbeddingBackward(const Stream& stream, std::span<const int32_t> ids,
                                   const Matrix& dout, size_t first_id,
                                   const Matrix& table_gradient) = 0;

  // out = a + b, element by element; out may be a or b. One dtype.
  virtual Status Add(const Stream& stream, const Matrix& a, const Matrix& b, const Matrix& out) = 0;
  // Converts between fp32 and bf16, or copies.
  virtual Status Cast(const Stream& stream, const Matrix& from, const Matrix& to) = 0;
  // Sums of squares, for the global norm, are made in fp64 in an order that depends on the number
  // of elements alone: pieces of fixed size, in each of them element i goes to sum i % 16. So any
  // number of threads and every instruction set gives the same bits. Not finite if any element is
  // not; nothing that is finite overflows.
  //
  // Rounds fp32 to a format of 16 bits as Cast() does; *squares (fp64, device memory) becomes the
  // sum of squares of what it wrote. The workspace is that of TwoPassWorkspaceBytes().
  virtual Status RoundAndSumSquares(const Stream& stream, std::span<const float> from,
                                    std::byte* to, DType dtype, double* squares,
                                    std::span<std::byte> workspace) = 0;
  // The same sum of numbers that are rounded already or need not be.
  virtual Status SumOfSquares(const Stream& stream, std::span<const std::byte> numbers, DType dtype,
                              double* squares, std::span<std::byte> workspace) = 0;
  virtual Status Zero(const Stream& stream, std::span<std::byte> bytes) = 0;
};

}  // namespace strata::engine
