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

Result<TileProducts> ScoreProducts(const Geometry& geometry, ProductCache& cache, size_t stride_a,
                                   size_t stride_b) {
  return TileProducts::Prepare(cache, geometry.queries, geometry.keys,
                               [&](size_t queries, size_t keys) {
                                 return ProductShape{.dtype = geometry.dtype,
                                                     .transpose_b = Transpose::kYes,
                                                     .rows = queries,
                                                     .cols = keys,
                                                     .depth = geometry.shape.head_dim,
                                                     .stride_a = stride_a,
                                                     .stride_b = stride_b,
                                                     .stride_out = geometry.keys.piece};
                               });
}

Result<TileProducts> QueryProducts(const Geometry& geometry, ProductCache& cache, size_t stride_b) {
  return TileProducts::Prepare(cache, geometry.queries, geometry.keys,
                               [&](size_t queries, size_t keys) {
                                 return ProductShape{.dtype = geometry.dtype,
                                                     .output = Output::kAccumulate,
                                                     .rows = queries,
                                                     .cols = geometry.shape.head_dim,
                                                     .depth = keys,
                                                     .stride_a = geometry.keys.piece,
                                                     .stride_b = stride_b,
                                                     .stride_out = geometry.shape.head_dim};
                               });
}

Result<TileProducts> KeyProducts(const Geometry& geometry, ProductCache& cache, size_t stride_b) {
  return TileProducts::Prepare(cache, geometry.queries, geometry.keys,
                               [&](size_t queries, size_t keys) {
                                 return ProductShape{.dtype = geometry.dtype,
                                                     .transpose_a = Transpose::kYes,
                                                     .output = Output::kAccumulate,
                                                     .rows = keys,
                                                     .cols = geometry.shape.head_dim,
                                                     .depth = queries,
                                                     .stride_a = geometry.keys.piece,
                                                     .stride_b = stride_b,
                                                     .stride_out = geometry.shape.head_dim};
                               });
}

size_t CpuKernels::AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) const {
  const Geometry geometry(shape, dtype);
  return pool_.num_threads() * std::max(BytesPerThread<ForwardMemory>(geometry),
                                        BytesPerThread<BackwardMemory>(geometry));
}

}  // namespace strata::engine
