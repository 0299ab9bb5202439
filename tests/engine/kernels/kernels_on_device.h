// Kernels of a device, called with operands in host memory.
//
// Each call copies its operands to the device, where they are as aligned as on the host, and after
// it what it may change back. Whatever else it changed fails the test: bytes before and behind an
// operand, between its rows, inputs. Workspaces are full of NaN before, and come from here.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/kernels/kernels.h"
#include "tiering/device.h"

namespace strata::engine {

// The operands of one call.
class DeviceCall {
 public:
  DeviceCall(tiering::Device& device, tiering::DeviceStream& stream)
      : device_(device), stream_(stream) {}

  // Where an operand will be on the device. Those that start at one address are one operand.
  Matrix In(const Matrix& host) { return OnDevice(host, Use::kRead); }
  Matrix Out(const Matrix& host) { return OnDevice(host, Use::kWrite); }
  template <typename T>
  std::span<T> In(std::span<T> host) {
    return OnDevice(host, Use::kRead);
  }
  template <typename T>
  std::span<T> Out(std::span<T> host) {
    return OnDevice(host, Use::kWrite);
  }
  std::span<std::byte> Workspace(size_t size_bytes);

  // Runs it on the device's stream and waits for it.
  Status Run(const std::function<Status(const tiering::StreamContext&)>& function);

 private:
  enum class Use : uint8_t { kRead, kWrite };
  struct Operand {
    std::byte* host = nullptr;
    size_t size_bytes = 0;
    size_t offset_bytes = 0;  // on the device
  };
  struct Rows {
    size_t operand = 0;
    size_t count = 0, size_bytes = 0, stride_bytes = 0;
  };

  // Places [host, host + size_bytes); returns its index.
  size_t Place(const std::byte* host, size_t size_bytes);
  Matrix OnDevice(const Matrix& host, Use use);
  template <typename T>
  std::span<T> OnDevice(std::span<T> host, Use use) {
    if (host.empty()) return {};
    auto* bytes = reinterpret_cast<std::byte*>(const_cast<std::remove_const_t<T>*>(host.data()));
    const size_t index = Place(bytes, host.size_bytes());
    if (use == Use::kWrite) written_.push_back({index, 1, host.size_bytes(), host.size_bytes()});
    return {reinterpret_cast<T*>(At(operands_[index])), host.size()};
  }
  std::byte* At(const Operand& operand) const {
    return device_.memory().data() + operand.offset_bytes;
  }
  std::vector<std::byte> Image() const;  // of what the device's memory is to hold
  void TakeBack(std::vector<std::byte> expected, const std::vector<std::byte>& result) const;

  tiering::Device& device_;
  tiering::DeviceStream& stream_;
  std::vector<Operand> operands_;
  std::vector<Rows> written_;
  size_t used_bytes_ = 0;
};

// One caller at a time.
class KernelsOnDevice final : public Kernels {
 public:
  // The device's memory is used from its start on.
  KernelsOnDevice(std::unique_ptr<Kernels> kernels, std::unique_ptr<tiering::Device> device)
      : device_(std::move(device)),
        stream_(device_->CreateStream("test")),
        kernels_(std::move(kernels)) {}

  RowsAtOnce rows_at_once() const override { return kernels_->rows_at_once(); }
  size_t MatMulWorkspaceBytes() const override { return kernels_->MatMulWorkspaceBytes(); }
  Status MatMul(const Stream&, const Matrix& a, Transpose transpose_a, const Matrix& b,
                Transpose transpose_b, const Matrix& out, Output output,
                std::span<std::byte>) override;
  Status RmsNormForward(const Stream&, const Matrix& x, const std::byte* weight, float eps,
                        const Matrix& y) override;
  Status RmsNormBackward(const Stream&, const Matrix& x, const std::byte* weight, float eps,
                         const Matrix& dy, const Matrix& dx, float* weight_gradient,
                         std::span<std::byte>) override;
  size_t TwoPassWorkspaceBytes() const override { return kernels_->TwoPassWorkspaceBytes(); }
  Status Rope(const Stream&, const Matrix& x, size_t seq_len, size_t head_dim,
              std::span<const float> inverse_frequency, float attention_factor,
              int direction) override;
  size_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) const override {
    return kernels_->AttentionWorkspaceBytes(shape, dtype);
  }
  Status AttentionForward(const Stream&, const AttentionShape& shape, const Matrix& q,
                          const Matrix& k, const Matrix& v, const Matrix& out, float* log_sum_exp,
                          std::span<std::byte>) override;
  Status AttentionBackward(const Stream&, const AttentionShape& shape, const Matrix& q,
                           const Matrix& k, const Matrix& v, const Matrix& out,
                           const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                           const Matrix& dk, const Matrix& dv, std::span<std::byte>) override;
  Status SwiGluForward(const Stream&, const Matrix& gate, const Matrix& up,
                       const Matrix& out) override;
  Status SwiGluBackward(const Stream&, const Matrix& gate, const Matrix& up, const Matrix& dout,
                        const Matrix& dgate, const Matrix& dup) override;
  Status SoftmaxStatistics(const Stream&, const Matrix& logits, std::span<const int32_t> targets,
                           size_t first_column, Output output, std::span<SoftmaxRow> rows) override;
  Status CrossEntropy(const Stream&, const Matrix& logits, std::span<const int32_t> targets,
                      size_t first_column, std::span<const SoftmaxRow> rows, float gradient_scale,
                      const Matrix& dlogits) override;
  Status CrossEntropyLoss(const Stream&, std::span<const int32_t> targets,
                          std::span<const SoftmaxRow> rows, double* loss_sum) override;
  Status EmbeddingForward(const Stream&, const Matrix& table, size_t first_id,
                          std::span<const int32_t> ids, const Matrix& out) override;
  Status EmbeddingBackward(const Stream&, std::span<const int32_t> ids, const Matrix& dout,
                           size_t first_id, const Matrix& table_gradient) override;
  Status Add(const Stream&, const Matrix& a, const Matrix& b, const Matrix& out) override;
  Status Cast(const Stream&, const Matrix& from, const Matrix& to) override;
  Status RoundAndSumSquares(const Stream&, std::span<const float> from, std::byte* to, DType dtype,
                            double* squares, std::span<std::byte>) override;
  Status SumOfSquares(const Stream&, std::span<const std::byte> numbers, DType dtype,
                      double* squares, std::span<std::byte>) override;
  Status Zero(const Stream&, std::span<std::byte> bytes) override;

 private:
  DeviceCall Begin() { return DeviceCall(*device_, *stream_); }

  std::unique_ptr<tiering::Device> device_;
  std::unique_ptr<tiering::DeviceStream> stream_;
  std::unique_ptr<Kernels> kernels_;
};

}  // namespace strata::engine
