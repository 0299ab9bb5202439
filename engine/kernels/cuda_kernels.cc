#include "engine/kernels/cuda_kernels.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/log.h"
#include "engine/kernels/cuda/attention.h"
#include "engine/kernels/cuda/cublas_lt.h"
#include "engine/kernels/cuda/plain_product.h"
#include "engine/kernels/cuda/products.h"
#include "engine/kernels/cuda/row_kernels.h"
#include "tiering/cuda_status.h"

namespace strata::engine {
namespace {

class CudaKernels final : public cuda::CudaRowKernels {
 public:
  // Without products: for planning.
  explicit CudaKernels(std::unique_ptr<cuda::CudaProducts> products)
      : products_(std::move(products)) {}

  size_t MatMulWorkspaceBytes() const override { return cuda::kMatMulWorkspaceBytes; }
  Status MatMul(const Stream& stream, const Matrix& a, Transpose transpose_a, const Matrix& b,
                Transpose transpose_b, const Matrix& out, Output output,
                std::span<std::byte> workspace) override {
    STRATA_CHECK(products_ != nullptr);
    return products_->MatMul(stream, a, transpose_a, b, transpose_b, out, output, workspace);
  }

  size_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) const override {
    if (dtype != DType::kF32 && !cuda::HeadsSuitTensorCores(shape.head_dim, dtype))
      std::call_once(told_of_slow_attention_, TellOfSlowAttention, shape.head_dim);
    return cuda::AttentionWorkspaceBytes(shape);
  }
  Status AttentionForward(const Stream& stream, const AttentionShape& shape, const Matrix& q,
                          const Matrix& k, const Matrix& v, const Matrix& out, float* log_sum_exp,
                          std::span<std::byte>) override {
    return cuda::AttentionForward(stream, shape, q, k, v, out, log_sum_exp);
  }
  Status AttentionBackward(const Stream& stream, const AttentionShape& shape, const Matrix& q,
                           const Matrix& k, const Matrix& v, const Matrix& out,
                           const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                           const Matrix& dk, const Matrix& dv,
                           std::span<std::byte> workspace) override {
    return cuda::AttentionBackward(stream, shape, q, k, v, out, log_sum_exp, dout, dq, dk, dv,
                                   workspace);
  }

 private:
  static void TellOfSlowAttention(size_t head_dim) {
    Log(Severity::kWarning, "kernels",
        "attention of heads of {} elements runs without tensor cores, many times slower than it "
        "could: on CUDA those take heads of at most 128 elements, a multiple of 8",
        head_dim);
  }

  std::unique_ptr<cuda::CudaProducts> products_;
  mutable std::once_flag told_of_slow_attention_;
};

}  // namespace

Result<std::unique_ptr<Kernels>> MakeCudaKernels(std::optional<uint32_t> gpu) {
  if (!gpu) return std::unique_ptr<Kernels>(std::make_unique<CudaKernels>(nullptr));
  const std::string name = fmt::format("device cuda:{}", *gpu);
  STRATA_RETURN_IF_ERROR(
      tiering::CudaStatus(cudaSetDevice(static_cast<int>(*gpu)), "choose it").With(name));
  STRATA_ASSIGN_OR_RETURN(const cublas_lt::Library library, cublas_lt::Load().With(name));
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<cuda::CudaProducts> products,
                          cuda::CudaProducts::Create(library, &cuda::PlainProduct).With(name));
  Log(Severity::kInfo, "kernels", "{}: products by {}", name, products->library_name());
  return std::unique_ptr<Kernels>(std::make_unique<CudaKernels>(std::move(products)));
}

}  // namespace strata::engine
