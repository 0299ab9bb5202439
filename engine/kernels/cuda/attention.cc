#include "engine/kernels/cuda/attention.h"

#include "aio/base/check.h"
#include "engine/kernels/cuda/attention_arguments.h"

namespace strata::engine::cuda {
namespace {

void CheckShape(const AttentionShape& shape) {
  STRATA_CHECK(shape.num_kv_heads > 0 && shape.num_heads % shape.num_kv_heads == 0);
  STRATA_CHECK(shape.seq_len > 0 && shape.head_dim > 0);
}

void CheckMatrix(const AttentionShape& shape, size_t num_heads, DType dtype, const Matrix& matrix) {
  STRATA_CHECK(matrix.rows == shape.batch * shape.seq_len);
  STRATA_CHECK(matrix.cols == num_heads * shape.head_dim && matrix.dtype == dtype);
}

// Whether every head of every row starts where 16 bytes may be loaded at once.
bool HasAlignedHeads(const Matrix& matrix) {
  constexpr size_t kBytes = 16;
  return reinterpret_cast<uintptr_t>(matrix.data) % kBytes == 0 &&
         matrix.stride * SizeOf(matrix.dtype) % kBytes == 0;
}

template <typename... Matrices>
bool SuitTensorCores(const AttentionShape& shape, const Matrix& first, const Matrices&... others) {
  return HeadsSuitTensorCores(shape.head_dim, first.dtype) && HasAlignedHeads(first) &&
         (HasAlignedHeads(others) && ...);
}

}  // namespace

bool HeadsSuitTensorCores(size_t head_dim, DType dtype) {
  return dtype != DType::kF32 && head_dim % 8 == 0 && head_dim <= kMaxTensorCoreHeadDim;
}

size_t AttentionWorkspaceBytes(const AttentionShape& shape) {
  return shape.num_heads * shape.batch * shape.seq_len * sizeof(float);
}

Status AttentionForward(const Kernels::Stream& stream, const AttentionShape& shape, const Matrix& q,
                        const Matrix& k, const Matrix& v, const Matrix& out, float* log_sum_exp) {
  CheckShape(shape);
  for (const Matrix* matrix : {&q, &out}) CheckMatrix(shape, shape.num_heads, q.dtype, *matrix);
  for (const Matrix* matrix : {&k, &v}) CheckMatrix(shape, shape.num_kv_heads, q.dtype, *matrix);
  AttentionArguments arguments;
  arguments.shape = shape;
  arguments.scale = ScaleOf(shape);
  arguments.q = q;
  arguments.k = k;
  arguments.v = v;
  arguments.out = out;
  arguments.log_sum_exp = log_sum_exp;
  return SuitTensorCores(shape, q, k, v, out) ? TensorCoreForward(stream, arguments)
                                              : PlainForward(stream, arguments);
}

Status AttentionBackward(const Kernels::Stream& stream, const AttentionShape& shape,
                         const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                         const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                         const Matrix& dk, const Matrix& dv, std::span<std::byte> workspace) {
  CheckShape(shape);
  for (const Matrix* matrix : {&q, &out, &dout, &dq})
    CheckMatrix(shape, shape.num_heads, q.dtype, *matrix);
  for (const Matrix* matrix : {&k, &v, &dk, &dv})
    CheckMatrix(shape, shape.num_kv_heads, q.dtype, *matrix);
  STRATA_CHECK(workspace.size() >= AttentionWorkspaceBytes(shape));
  AttentionArguments arguments;
  arguments.shape = shape;
  arguments.scale = ScaleOf(shape);
  arguments.q = q;
  arguments.k = k;
  arguments.v = v;
  arguments.out = out;
  arguments.log_sum_exp = const_cast<float*>(log_sum_exp);  // which backward only reads
  arguments.dots = reinterpret_cast<float*>(workspace.data());
  arguments.dout = dout;
  arguments.dq = dq;
  arguments.dk = dk;
  arguments.dv = dv;
  STRATA_RETURN_IF_ERROR(AttentionDots(stream, arguments));
  return SuitTensorCores(shape, q, k, v, out, dout, dq, dk, dv)
             ? TensorCoreBackward(stream, arguments)
             : PlainBackward(stream, arguments);
}

}  // namespace strata::engine::cuda
