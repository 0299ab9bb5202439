#include "tests/engine/kernels/kernels_on_device.h"

#include <gtest/gtest.h>

#include <cstring>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::engine {
namespace {

constexpr size_t kAlignmentBytes = 256;  // of slots, and so of what kernels are called with
constexpr size_t kGuardBytes = 512;
constexpr std::byte kGuard{0xa5};
constexpr std::byte kPoison{0xff};  // NaN, as fp32 and in 16 bits

size_t RowBytes(const Matrix& matrix) { return matrix.cols * SizeOf(matrix.dtype); }

Matrix Row(const std::byte* data, DType dtype, size_t cols) {
  return DenseMatrix(const_cast<std::byte*>(data), dtype, 1, cols);
}

}  // namespace

size_t DeviceCall::Place(const std::byte* host, size_t size_bytes) {
  for (size_t i = 0; i < operands_.size(); ++i) {
    if (operands_[i].host != host) continue;
    STRATA_CHECK(operands_[i].size_bytes == size_bytes);
    return i;
  }
  const size_t begin = RoundUp(used_bytes_ + kGuardBytes, kAlignmentBytes) +
                       reinterpret_cast<uintptr_t>(host) % kAlignmentBytes;
  operands_.push_back({const_cast<std::byte*>(host), size_bytes, begin});
  used_bytes_ = begin + size_bytes;
  return operands_.size() - 1;
}

Matrix DeviceCall::OnDevice(const Matrix& host, Use use) {
  if (host.rows == 0 || host.cols == 0) return host;
  const size_t stride_bytes = host.stride * SizeOf(host.dtype);
  const size_t index = Place(host.data, (host.rows - 1) * stride_bytes + RowBytes(host));
  if (use == Use::kWrite) written_.push_back({index, host.rows, RowBytes(host), stride_bytes});
  Matrix matrix = host;
  matrix.data = At(operands_[index]);
  return matrix;
}

std::span<std::byte> DeviceCall::Workspace(size_t size_bytes) {
  if (size_bytes == 0) return {};
  const size_t begin = RoundUp(used_bytes_ + kGuardBytes, kAlignmentBytes);
  operands_.push_back({nullptr, size_bytes, begin});
  written_.push_back({operands_.size() - 1, 1, size_bytes, size_bytes});
  used_bytes_ = begin + size_bytes;
  return {At(operands_.back()), size_bytes};
}

std::vector<std::byte> DeviceCall::Image() const {
  std::vector<std::byte> image(used_bytes_ + kGuardBytes, kGuard);
  for (const Operand& operand : operands_) {
    std::byte* to = image.data() + operand.offset_bytes;
    if (operand.host == nullptr)
      std::memset(to, static_cast<int>(kPoison), operand.size_bytes);
    else
      std::memcpy(to, operand.host, operand.size_bytes);
  }
  return image;
}

void DeviceCall::TakeBack(std::vector<std::byte> expected,
                          const std::vector<std::byte>& result) const {
  for (const Rows& rows : written_) {
    const Operand& operand = operands_[rows.operand];
    for (size_t row = 0; row < rows.count; ++row) {
      const size_t at = row * rows.stride_bytes;
      const std::byte* from = result.data() + operand.offset_bytes + at;
      std::memcpy(expected.data() + operand.offset_bytes + at, from, rows.size_bytes);
      if (operand.host != nullptr) std::memcpy(operand.host + at, from, rows.size_bytes);
    }
  }
  for (size_t i = 0; i < result.size(); ++i) {
    if (result[i] == expected[i]) continue;
    ADD_FAILURE() << "byte " << i << " of " << result.size() << " was changed, which is no output";
    return;
  }
}

Status DeviceCall::Run(const std::function<Status(const tiering::StreamContext&)>& function) {
  std::vector<std::byte> image = Image(), result(image.size());
  STRATA_CHECK(image.size() <= device_.memory().size());
  const std::span<std::byte> memory = device_.memory().first(image.size());
  stream_.CopyIn(memory, image);
  stream_.Launch(function);
  stream_.CopyOut(result, memory);
  STRATA_RETURN_IF_ERROR(stream_.Record().Wait());
  TakeBack(std::move(image), result);
  return OkStatus();
}

Status KernelsOnDevice::MatMul(const Stream&, const Matrix& a, Transpose transpose_a,
                               const Matrix& b, Transpose transpose_b, const Matrix& out,
                               Output output, std::span<std::byte>) {
  DeviceCall call = Begin();
  const Matrix on_a = call.In(a), on_b = call.In(b), on_out = call.Out(out);
  const std::span<std::byte> workspace = call.Workspace(MatMulWorkspaceBytes());
  return call.Run([&](const Stream& stream) {
    return kernels_->MatMul(stream, on_a, transpose_a, on_b, transpose_b, on_out, output,
                            workspace);
  });
}

Status KernelsOnDevice::RmsNormForward(const Stream&, const Matrix& x, const std::byte* weight,
                                       float eps, const Matrix& y) {
  DeviceCall call = Begin();
  const Matrix on_x = call.In(x), on_y = call.Out(y);
  const Matrix on_weight = call.In(Row(weight, x.dtype, x.cols));
  return call.Run([&](const Stream& stream) {
    return kernels_->RmsNormForward(stream, on_x, on_weight.data, eps, on_y);
  });
}

Status KernelsOnDevice::RmsNormBackward(const Stream&, const Matrix& x, const std::byte* weight,
                                        float eps, const Matrix& dy, const Matrix& dx,
                                        float* weight_gradient, std::span<std::byte>) {
  DeviceCall call = Begin();
  const Matrix on_x = call.In(x), on_dy = call.In(dy), on_dx = call.Out(dx);
  const Matrix on_weight = call.In(Row(weight, x.dtype, x.cols));
  const std::span<float> on_gradient = call.Out(std::span(weight_gradient, x.cols));
  const std::span<std::byte> workspace = call.Workspace(TwoPassWorkspaceBytes());
  return call.Run([&](const Stream& stream) {
    return kernels_->RmsNormBackward(stream, on_x, on_weight.data, eps, on_dy, on_dx,
                                     on_gradient.data(), workspace);
  });
}

Status KernelsOnDevice::Rope(const Stream&, const Matrix& x, size_t seq_len, size_t head_dim,
                             std::span<const float> inverse_frequency, float attention_factor,
                             int direction) {
  DeviceCall call = Begin();
  const Matrix on_x = call.Out(x);
  return call.Run([&](const Stream& stream) {
    // Gone once the call is over, as it may be.
    const std::vector<float> frequency(inverse_frequency.begin(), inverse_frequency.end());
    return kernels_->Rope(stream, on_x, seq_len, head_dim, frequency, attention_factor, direction);
  });
}

Status KernelsOnDevice::AttentionForward(const Stream&, const AttentionShape& shape,
                                         const Matrix& q, const Matrix& k, const Matrix& v,
                                         const Matrix& out, float* log_sum_exp,
                                         std::span<std::byte>) {
  DeviceCall call = Begin();
  const Matrix on_q = call.In(q), on_k = call.In(k), on_v = call.In(v), on_out = call.Out(out);
  const std::span<float> on_sums = call.Out(std::span(log_sum_exp, shape.num_heads * q.rows));
  const std::span<std::byte> workspace = call.Workspace(AttentionWorkspaceBytes(shape, q.dtype));
  return call.Run([&](const Stream& stream) {
    return kernels_->AttentionForward(stream, shape, on_q, on_k, on_v, on_out, on_sums.data(),
                                      workspace);
  });
}

Status KernelsOnDevice::AttentionBackward(const Stream&, const AttentionShape& shape,
                                          const Matrix& q, const Matrix& k, const Matrix& v,
                                          const Matrix& out, const float* log_sum_exp,
                                          const Matrix& dout, const Matrix& dq, const Matrix& dk,
                                          const Matrix& dv, std::span<std::byte>) {
  DeviceCall call = Begin();
  const Matrix on_q = call.In(q), on_k = call.In(k), on_v = call.In(v), on_out = call.In(out);
  const std::span<const float> on_sums = call.In(std::span(log_sum_exp, shape.num_heads * q.rows));
  const Matrix on_dout = call.In(dout);
  const Matrix on_dq = call.Out(dq), on_dk = call.Out(dk), on_dv = call.Out(dv);
  const std::span<std::byte> workspace = call.Workspace(AttentionWorkspaceBytes(shape, q.dtype));
  return call.Run([&](const Stream& stream) {
    return kernels_->AttentionBackward(stream, shape, on_q, on_k, on_v, on_out, on_sums.data(),
                                       on_dout, on_dq, on_dk, on_dv, workspace);
  });
}

Status KernelsOnDevice::SwiGluForward(const Stream&, const Matrix& gate, const Matrix& up,
                                      const Matrix& out) {
  DeviceCall call = Begin();
  const Matrix on_gate = call.In(gate), on_up = call.In(up), on_out = call.Out(out);
  return call.Run([&](const Stream& stream) {
    return kernels_->SwiGluForward(stream, on_gate, on_up, on_out);
  });
}

Status KernelsOnDevice::SwiGluBackward(const Stream&, const Matrix& gate, const Matrix& up,
                                       const Matrix& dout, const Matrix& dgate, const Matrix& dup) {
  DeviceCall call = Begin();
  const Matrix on_gate = call.In(gate), on_up = call.In(up), on_dout = call.In(dout);
  const Matrix on_dgate = call.Out(dgate), on_dup = call.Out(dup);
  return call.Run([&](const Stream& stream) {
    return kernels_->SwiGluBackward(stream, on_gate, on_up, on_dout, on_dgate, on_dup);
  });
}

Status KernelsOnDevice::SoftmaxStatistics(const Stream&, const Matrix& logits,
                                          std::span<const int32_t> targets, size_t first_column,
                                          Output output, std::span<SoftmaxRow> rows) {
  DeviceCall call = Begin();
  const Matrix on_logits = call.In(logits);
  const std::span<const int32_t> on_targets = call.In(targets);
  const std::span<SoftmaxRow> on_rows = call.Out(rows);
  return call.Run([&](const Stream& stream) {
    return kernels_->SoftmaxStatistics(stream, on_logits, on_targets, first_column, output,
                                       on_rows);
  });
}

Status KernelsOnDevice::CrossEntropy(const Stream&, const Matrix& logits,
                                     std::span<const int32_t> targets, size_t first_column,
                                     std::span<const SoftmaxRow> rows, float gradient_scale,
                                     const Matrix& dlogits) {
  DeviceCall call = Begin();
  const Matrix on_logits = call.In(logits), on_dlogits = call.Out(dlogits);
  const std::span<const int32_t> on_targets = call.In(targets);
  const std::span<const SoftmaxRow> on_rows = call.In(rows);
  return call.Run([&](const Stream& stream) {
    return kernels_->CrossEntropy(stream, on_logits, on_targets, first_column, on_rows,
                                  gradient_scale, on_dlogits);
  });
}

Status KernelsOnDevice::CrossEntropyLoss(const Stream&, std::span<const int32_t> targets,
                                         std::span<const SoftmaxRow> rows, double* loss_sum) {
  DeviceCall call = Begin();
  const std::span<const int32_t> on_targets = call.In(targets);
  const std::span<const SoftmaxRow> on_rows = call.In(rows);
  const std::span<double> on_sum = call.Out(std::span(loss_sum, 1));
  return call.Run([&](const Stream& stream) {
    return kernels_->CrossEntropyLoss(stream, on_targets, on_rows, on_sum.data());
  });
}

Status KernelsOnDevice::EmbeddingForward(const Stream&, const Matrix& table, size_t first_id,
                                         std::span<const int32_t> ids, const Matrix& out) {
  DeviceCall call = Begin();
  const Matrix on_table = call.In(table), on_out = call.Out(out);
  const std::span<const int32_t> on_ids = call.In(ids);
  return call.Run([&](const Stream& stream) {
    return kernels_->EmbeddingForward(stream, on_table, first_id, on_ids, on_out);
  });
}

Status KernelsOnDevice::EmbeddingBackward(const Stream&, std::span<const int32_t> ids,
                                          const Matrix& dout, size_t first_id,
                                          const Matrix& table_gradient) {
  DeviceCall call = Begin();
  const Matrix on_dout = call.In(dout), on_gradient = call.Out(table_gradient);
  const std::span<const int32_t> on_ids = call.In(ids);
  return call.Run([&](const Stream& stream) {
    return kernels_->EmbeddingBackward(stream, on_ids, on_dout, first_id, on_gradient);
  });
}

Status KernelsOnDevice::Add(const Stream&, const Matrix& a, const Matrix& b, const Matrix& out) {
  DeviceCall call = Begin();
  const Matrix on_a = call.In(a), on_b = call.In(b), on_out = call.Out(out);
  return call.Run([&](const Stream& stream) { return kernels_->Add(stream, on_a, on_b, on_out); });
}

Status KernelsOnDevice::Cast(const Stream&, const Matrix& from, const Matrix& to) {
  DeviceCall call = Begin();
  const Matrix on_from = call.In(from), on_to = call.Out(to);
  return call.Run([&](const Stream& stream) { return kernels_->Cast(stream, on_from, on_to); });
}

Status KernelsOnDevice::RoundAndSumSquares(const Stream&, std::span<const float> from,
                                           std::byte* to, DType dtype, double* squares,
                                           std::span<std::byte>) {
  DeviceCall call = Begin();
  const std::span<const float> on_from = call.In(from);
  const Matrix on_to = call.Out(Row(to, dtype, from.size()));
  const std::span<double> on_squares = call.Out(std::span(squares, 1));
  const std::span<std::byte> workspace = call.Workspace(TwoPassWorkspaceBytes());
  return call.Run([&](const Stream& stream) {
    return kernels_->RoundAndSumSquares(stream, on_from, on_to.data, dtype, on_squares.data(),
                                        workspace);
  });
}

Status KernelsOnDevice::SumOfSquares(const Stream&, std::span<const std::byte> numbers, DType dtype,
                                     double* squares, std::span<std::byte>) {
  DeviceCall call = Begin();
  const std::span<const std::byte> on_numbers = call.In(numbers);
  const std::span<double> on_squares = call.Out(std::span(squares, 1));
  const std::span<std::byte> workspace = call.Workspace(TwoPassWorkspaceBytes());
  return call.Run([&](const Stream& stream) {
    return kernels_->SumOfSquares(stream, on_numbers, dtype, on_squares.data(), workspace);
  });
}

Status KernelsOnDevice::Zero(const Stream&, std::span<std::byte> bytes) {
  DeviceCall call = Begin();
  const std::span<std::byte> on_bytes = call.Out(bytes);
  return call.Run([&](const Stream& stream) { return kernels_->Zero(stream, on_bytes); });
}

}  // namespace strata::engine
