#include "engine/kernels/cuda_planning_kernels.h"

#include "aio/base/units.h"
#include "engine/kernels/cuda/products.h"

namespace strata::engine {
namespace {

Status ForPlanning() { return Unavailable("these kernels are for planning, and compute nothing"); }

// The sizes are CUDA's own, which sources that need nvcc have; a test holds the two together.
class CudaPlanningKernels final : public Kernels {
 public:
  RowsAtOnce rows_at_once() const override { return {8192, 1_GiB, 1024}; }
  size_t MatMulWorkspaceBytes() const override { return cuda::kMatMulWorkspaceBytes; }
  size_t TwoPassWorkspaceBytes() const override { return 64_KiB; }
  size_t AttentionWorkspaceBytes(const AttentionShape& shape, DType) const override {
    return shape.num_heads * shape.batch * shape.seq_len * sizeof(float);
  }

  Status MatMul(const Stream&, const Matrix&, Transpose, const Matrix&, Transpose, const Matrix&,
                Output, std::span<std::byte>) override {
    return ForPlanning();
  }
  Status RmsNormForward(const Stream&, const Matrix&, const std::byte*, float,
                        const Matrix&) override {
    return ForPlanning();
  }
  Status RmsNormBackward(const Stream&, const Matrix&, const std::byte*, float, const Matrix&,
                         const Matrix&, float*, std::span<std::byte>) override {
    return ForPlanning();
  }
  Status Rope(const Stream&, const Matrix&, size_t, size_t, std::span<const float>, float,
              int) override {
    return ForPlanning();
  }
  Status AttentionForward(const Stream&, const AttentionShape&, const Matrix&, const Matrix&,
                          const Matrix&, const Matrix&, float*, std::span<std::byte>) override {
    return ForPlanning();
  }
  Status AttentionBackward(const Stream&, const AttentionShape&, const Matrix&, const Matrix&,
                           const Matrix&, const Matrix&, const float*, const Matrix&, const Matrix&,
                           const Matrix&, const Matrix&, std::span<std::byte>) override {
    return ForPlanning();
  }
  Status SwiGluForward(const Stream&, const Matrix&, const Matrix&, const Matrix&) override {
    return ForPlanning();
  }
  Status SwiGluBackward(const Stream&, const Matrix&, const Matrix&, const Matrix&, const Matrix&,
                        const Matrix&) override {
    return ForPlanning();
  }
  Status SoftmaxStatistics(const Stream&, const Matrix&, std::span<const int32_t>, size_t, Output,
                           std::span<SoftmaxRow>) override {
    return ForPlanning();
  }
  Status CrossEntropy(const Stream&, const Matrix&, std::span<const int32_t>, size_t,
                      std::span<const SoftmaxRow>, float, const Matrix&) override {
    return ForPlanning();
  }
  Status CrossEntropyLoss(const Stream&, std::span<const int32_t>, std::span<const SoftmaxRow>,
                          double*) override {
    return ForPlanning();
  }
  Status EmbeddingForward(const Stream&, const Matrix&, size_t, std::span<const int32_t>,
                          const Matrix&) override {
    return ForPlanning();
  }
  Status EmbeddingBackward(const Stream&, std::span<const int32_t>, const Matrix&, size_t,
                           const Matrix&) override {
    return ForPlanning();
  }
  Status Add(const Stream&, const Matrix&, const Matrix&, const Matrix&) override {
    return ForPlanning();
  }
  Status Cast(const Stream&, const Matrix&, const Matrix&) override { return ForPlanning(); }
  Status RoundAndSumSquares(const Stream&, std::span<const float>, std::byte*, DType, double*,
                            std::span<std::byte>) override {
    return ForPlanning();
  }
  Status SumOfSquares(const Stream&, std::span<const std::byte>, DType, double*,
                      std::span<std::byte>) override {
    return ForPlanning();
  }
  Status Zero(const Stream&, std::span<std::byte>) override { return ForPlanning(); }
};

}  // namespace

std::unique_ptr<Kernels> MakeCudaPlanningKernels() {
  return std::make_unique<CudaPlanningKernels>();
}

}  // namespace strata::engine
