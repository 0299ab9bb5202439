#include "engine/kernels/cuda/row_kernels.h"

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/row_operations.h"
#include "engine/kernels/internal/shape_checks.h"
#include "tiering/cuda_status.h"

namespace strata::engine::cuda {
namespace {

// 1 / rms of 16384 rows, or the sums of 8192 pieces, which are half a billion elements: more are
// taken one after the other, at no cost to speak of.
constexpr size_t kTwoPassWorkspaceBytes = 64_KiB;

template <typename T>
std::span<T> As(std::span<std::byte> workspace) {
  STRATA_CHECK(workspace.size() >= kTwoPassWorkspaceBytes);
  STRATA_CHECK(reinterpret_cast<uintptr_t>(workspace.data()) % alignof(T) == 0);
  return {reinterpret_cast<T*>(workspace.data()), kTwoPassWorkspaceBytes / sizeof(T)};
}

}  // namespace

size_t CudaRowKernels::TwoPassWorkspaceBytes() const { return kTwoPassWorkspaceBytes; }

Status CudaRowKernels::RmsNormForward(const Stream& stream, const Matrix& x,
                                      const std::byte* weight, float eps, const Matrix& y) {
  CheckAlike(x, y);
  return cuda::RmsNormForward(stream, x, weight, eps, y);
}

Status CudaRowKernels::RmsNormBackward(const Stream& stream, const Matrix& x,
                                       const std::byte* weight, float eps, const Matrix& dy,
                                       const Matrix& dx, float* weight_gradient,
                                       std::span<std::byte> workspace) {
  CheckRmsNormBackward(x, dy, dx);
  return cuda::RmsNormBackward(stream, x, weight, eps, dy, dx, weight_gradient,
                               As<float>(workspace));
}

Status CudaRowKernels::Rope(const Stream& stream, const Matrix& x, size_t seq_len, size_t head_dim,
                            std::span<const float> inverse_frequency, float attention_factor,
                            int direction) {
  CheckRope(x, seq_len, head_dim, inverse_frequency, direction);
  return cuda::Rope(stream, x, seq_len, head_dim, inverse_frequency, attention_factor, direction);
}

Status CudaRowKernels::SwiGluForward(const Stream& stream, const Matrix& gate, const Matrix& up,
                                     const Matrix& out) {
  CheckAlike(gate, up);
  CheckAlike(gate, out);
  return cuda::SwiGluForward(stream, gate, up, out);
}

Status CudaRowKernels::SwiGluBackward(const Stream& stream, const Matrix& gate, const Matrix& up,
                                      const Matrix& dout, const Matrix& dgate, const Matrix& dup) {
  for (const Matrix* other : {&up, &dout, &dgate, &dup}) CheckAlike(gate, *other);
  return cuda::SwiGluBackward(stream, gate, up, dout, dgate, dup);
}

Status CudaRowKernels::SoftmaxStatistics(const Stream& stream, const Matrix& logits,
                                         std::span<const int32_t> targets, size_t first_column,
                                         Output output, std::span<SoftmaxRow> rows) {
  CheckLogits(logits, targets, rows);
  return cuda::SoftmaxStatistics(stream, logits, targets, first_column, output, rows);
}

Status CudaRowKernels::CrossEntropy(const Stream& stream, const Matrix& logits,
                                    std::span<const int32_t> targets, size_t first_column,
                                    std::span<const SoftmaxRow> rows, float gradient_scale,
                                    const Matrix& dlogits) {
  CheckSameShape(logits, dlogits);
  CheckLogits(logits, targets, rows);
  return cuda::CrossEntropy(stream, logits, targets, first_column, rows, gradient_scale, dlogits);
}

Status CudaRowKernels::CrossEntropyLoss(const Stream& stream, std::span<const int32_t> targets,
                                        std::span<const SoftmaxRow> rows, double* loss_sum) {
  STRATA_CHECK(targets.size() == rows.size());
  return cuda::CrossEntropyLoss(stream, targets, rows, loss_sum);
}

Status CudaRowKernels::EmbeddingForward(const Stream& stream, const Matrix& table, size_t first_id,
                                        std::span<const int32_t> ids, const Matrix& out) {
  CheckEmbeddingForward(table, ids, out);
  return cuda::EmbeddingForward(stream, table, first_id, ids, out);
}

Status CudaRowKernels::EmbeddingBackward(const Stream& stream, std::span<const int32_t> ids,
                                         const Matrix& dout, size_t first_id,
                                         const Matrix& table_gradient) {
  CheckEmbeddingBackward(ids, dout, table_gradient);
  return cuda::EmbeddingBackward(stream, ids, dout, first_id, table_gradient);
}

Status CudaRowKernels::Add(const Stream& stream, const Matrix& a, const Matrix& b,
                           const Matrix& out) {
  CheckAlike(a, b);
  CheckAlike(a, out);
  return cuda::Add(stream, a, b, out);
}

Status CudaRowKernels::Cast(const Stream& stream, const Matrix& from, const Matrix& to) {
  CheckSameShape(from, to);
  return cuda::Cast(stream, from, to);
}

Status CudaRowKernels::RoundAndSumSquares(const Stream& stream, std::span<const float> from,
                                          std::byte* to, DType dtype, double* squares,
                                          std::span<std::byte> workspace) {
  return cuda::RoundAndSumSquares(stream, from, to, dtype, squares, As<double>(workspace));
}

Status CudaRowKernels::SumOfSquares(const Stream& stream, std::span<const std::byte> numbers,
                                    DType dtype, double* squares, std::span<std::byte> workspace) {
  return cuda::SumOfSquares(stream, numbers, dtype, squares, As<double>(workspace));
}

Status CudaRowKernels::Zero(const Stream& stream, std::span<std::byte> bytes) {
  if (bytes.empty()) return OkStatus();
  return tiering::CudaStatus(cudaMemsetAsync(bytes.data(), 0, bytes.size(), NativeStream(stream)),
                             "zero device memory");
}

}  // namespace strata::engine::cuda
