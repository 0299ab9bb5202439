#include "engine/kernels/internal/attention.h"

namespace strata::engine {

void CheckAttentionShapes(const AttentionShape& shape, const Matrix& q, const Matrix& k,
                          const Matrix& v) {
  STRATA_CHECK(shape.num_kv_heads > 0 && shape.num_heads % shape.num_kv_heads == 0);
  STRATA_CHECK(shape.seq_len > 0 && shape.head_dim > 0);
  STRATA_CHECK(q.rows == shape.batch * shape.seq_len);
  STRATA_CHECK(q.cols == shape.num_heads * shape.head_dim);
  for (const Matrix* other : {&k, &v}) {
    STRATA_CHECK(other->rows == q.rows && other->dtype == q.dtype);
    STRATA_CHECK(other->cols == shape.num_kv_heads * shape.head_dim);
  }
}

size_t CpuKernels::AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) const {
  const Geometry geometry(shape, dtype);
  return pool_.num_threads() * std::max(BytesPerThread<ForwardMemory>(geometry),
                                        BytesPerThread<BackwardMemory>(geometry));
}

}  // namespace strata::engine
