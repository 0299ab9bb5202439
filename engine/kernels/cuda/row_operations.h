// What works element by element or row by row on CUDA, enqueued on a stream; what each computes is
// said in engine/kernels/kernels.h. Shapes are checked by the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "aio/base/status.h"
#include "engine/kernels/kernels.h"

namespace strata::engine::cuda {

using Stream = Kernels::Stream;

Status Add(const Stream& stream, const Matrix& a, const Matrix& b, const Matrix& out);
Status Cast(const Stream& stream, const Matrix& from, const Matrix& to);

Status RmsNormForward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                      const Matrix& y);
// `inverse_rms` is memory for one number per row of a part of x; parts are taken one by one.
Status RmsNormBackward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                       const Matrix& dy, const Matrix& dx, float* weight_gradient,
                       std::span<float> inverse_rms);

Status Rope(const Stream& stream, const Matrix& x, size_t seq_len, size_t head_dim,
            std::span<const float> inverse_frequency, float attention_factor, int direction);

Status SwiGluForward(const Stream& stream, const Matrix& gate, const Matrix& up, const Matrix& out);
Status SwiGluBackward(const Stream& stream, const Matrix& gate, const Matrix& up,
                      const Matrix& dout, const Matrix& dgate, const Matrix& dup);

Status SoftmaxStatistics(const Stream& stream, const Matrix& logits,
                         std::span<const int32_t> targets, size_t first_column, Output output,
                         std::span<SoftmaxRow> rows);
Status CrossEntropy(const Stream& stream, const Matrix& logits, std::span<const int32_t> targets,
                    size_t first_column, std::span<const SoftmaxRow> rows, float gradient_scale,
                    const Matrix& dlogits);
Status CrossEntropyLoss(const Stream& stream, std::span<const int32_t> targets,
                        std::span<const SoftmaxRow> rows, double* loss_sum);

Status EmbeddingForward(const Stream& stream, const Matrix& table, size_t first_id,
                        std::span<const int32_t> ids, const Matrix& out);
Status EmbeddingBackward(const Stream& stream, std::span<const int32_t> ids, const Matrix& dout,
                         size_t first_id, const Matrix& table_gradient);

// `piece_sums` is memory for one number per piece of some of them; the rest is taken in rounds.
Status RoundAndSumSquares(const Stream& stream, std::span<const float> from, std::byte* to,
                          DType dtype, double* squares, std::span<double> piece_sums);
Status SumOfSquares(const Stream& stream, std::span<const std::byte> numbers, DType dtype,
                    double* squares, std::span<double> piece_sums);

}  // namespace strata::engine::cuda
