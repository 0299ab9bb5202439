// Matrix products on CUDA, by cuBLASLt.
//
// The same product has the same bits in every run: the algorithm is the library's first choice for
// the shape, which depends on nothing but what is in ProductShape, the GPU and the library's
// version; a product that is split along its depth is summed in fp32 in a fixed order; pointers
// count with their alignment up to 16 bytes only, which all slots have.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "aio/base/status.h"
#include "engine/kernels/cuda/cublas_lt.h"
#include "engine/kernels/kernels.h"

namespace strata::engine::cuda {

// Of a plan for any GPU, so that plans are the same on all. What the library's vendor recommends
// for an H100; others need less.
inline constexpr size_t kMatMulWorkspaceBytes = size_t{32} << 20;

// What the choice of an algorithm hangs on: a matrix as it lies in memory.
struct OperandShape {
  DType dtype;
  size_t rows, cols, stride;
  uint32_t alignment_bytes;
  auto operator<=>(const OperandShape&) const = default;
};
struct ProductShape {
  OperandShape a, b, out;
  Transpose transpose_a, transpose_b;
  auto operator<=>(const ProductShape&) const = default;
};

// Multiplies what the library cannot (plain_product.h, which not every build has).
using SlowProduct = Status (*)(const Kernels::Stream& stream, const Matrix& a,
                               Transpose transpose_a, const Matrix& b, Transpose transpose_b,
                               const Matrix& out, Output output);

// Thread-safe. Of the device that was current when it was made.
class CudaProducts {
 public:
  static Result<std::unique_ptr<CudaProducts>> Create(const cublas_lt::Library& library,
                                                      SlowProduct slow_product);
  ~CudaProducts();

  const std::string& library_name() const { return library_.name; }

  // Kernels::MatMul. Where cuBLASLt has no algorithm for a shape, that is logged once, and the slow
  // product takes it. kUnimplemented of outputs that are neither fp32 nor in the operands' format.
  Status MatMul(const Kernels::Stream& stream, const Matrix& a, Transpose transpose_a,
                const Matrix& b, Transpose transpose_b, const Matrix& out, Output output,
                std::span<std::byte> workspace);

 private:
  class Plan;  // a product of one shape, ready to be run
  CudaProducts(const cublas_lt::Library& library, cublas_lt::Handle handle,
               SlowProduct slow_product);
  Result<const Plan*> PlanOf(const ProductShape& shape);

  const cublas_lt::Library library_;
  const cublas_lt::Handle handle_;
  const SlowProduct slow_product_;
  std::mutex mutex_;
  std::map<ProductShape, std::unique_ptr<const Plan>> plans_;  // only grows
};

}  // namespace strata::engine::cuda
