// Kernels on CUDA but for products and attention, which another class adds.
//
// All bits are those of the host's kernels, but for the loss (whose logarithm is CUDA's, in fp64)
// and for which of its patterns a NaN has. docs/decisions/0039 has what that costs.
#pragma once

#include <span>

#include "aio/base/units.h"
#include "engine/kernels/kernels.h"

namespace strata::engine::cuda {

// Thread-safe: holds nothing. All pointers but inverse_frequency's are device memory.
class CudaRowKernels : public Kernels {
 public:
  // A GPU multiplies hundreds of times per byte that it moves. What is read and written of the
  // fp32 gradient of a weight, 8 bytes, stays below a tenth of the time of its products from a few
  // thousand rows on.
  RowsAtOnce rows_at_once() const override { return {8192, 1_GiB, 1024}; }
  Status RmsNormForward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                        const Matrix& y) override;
  Status RmsNormBackward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                         const Matrix& dy, const Matrix& dx, float* weight_gradient,
                         std::span<std::byte> workspace) override;
  size_t TwoPassWorkspaceBytes() const override;
  Status Rope(const Stream& stream, const Matrix& x, size_t seq_len, size_t head_dim,
              std::span<const float> inverse_frequency, float attention_factor,
              int direction) override;
  Status SwiGluForward(const Stream& stream, const Matrix& gate, const Matrix& up,
                       const Matrix& out) override;
  Status SwiGluBackward(const Stream& stream, const Matrix& gate, const Matrix& up,
                        const Matrix& dout, const Matrix& dgate, const Matrix& dup) override;
  Status SoftmaxStatistics(const Stream& stream, const Matrix& logits,
                           std::span<const int32_t> targets, size_t first_column, Output output,
                           std::span<SoftmaxRow> rows) override;
  Status CrossEntropy(const Stream& stream, const Matrix& logits, std::span<const int32_t> targets,
                      size_t first_column, std::span<const SoftmaxRow> rows, float gradient_scale,
                      const Matrix& dlogits) override;
  Status CrossEntropyLoss(const Stream& stream, std::span<const int32_t> targets,
                          std::span<const SoftmaxRow> rows, double* loss_sum) override;
  Status EmbeddingForward(const Stream& stream, const Matrix& table, size_t first_id,
                          std::span<const int32_t> ids, const Matrix& out) override;
  Status EmbeddingBackward(const Stream& stream, std::span<const int32_t> ids, const Matrix& dout,
                           size_t first_id, const Matrix& table_gradient) override;
  Status Add(const Stream& stream, const Matrix& a, const Matrix& b, const Matrix& out) override;
  Status Cast(const Stream& stream, const Matrix& from, const Matrix& to) override;
  Status RoundAndSumSquares(const Stream& stream, std::span<const float> from, std::byte* to,
                            DType dtype, double* squares, std::span<std::byte> workspace) override;
  Status SumOfSquares(const Stream& stream, std::span<const std::byte> numbers, DType dtype,
                      double* squares, std::span<std::byte> workspace) override;
  Status Zero(const Stream& stream, std::span<std::byte> bytes) override;
};

}  // namespace strata::engine::cuda
