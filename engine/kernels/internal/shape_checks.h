// What every implementation of the kernels that work row by row asks of its operands.
#pragma once

#include <cstddef>
#include <span>

#include "aio/base/check.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

inline void CheckSameShape(const Matrix& a, const Matrix& b) {
  STRATA_CHECK(a.rows == b.rows && a.cols == b.cols);
}
inline void CheckAlike(const Matrix& a, const Matrix& b) {
  CheckSameShape(a, b);
  STRATA_CHECK(a.dtype == b.dtype);
}

inline void CheckRmsNormBackward(const Matrix& x, const Matrix& dy, const Matrix& dx) {
  CheckAlike(x, dy);
  CheckSameShape(x, dx);
  STRATA_CHECK(dx.dtype == DType::kF32 || dx.dtype == x.dtype);
}

inline void CheckRope(const Matrix& x, size_t seq_len, size_t head_dim,
                      std::span<const float> inverse_frequency, int direction) {
  STRATA_CHECK(direction == 1 || direction == -1);
  STRATA_CHECK(seq_len > 0 && head_dim > 0 && head_dim % 2 == 0 && x.cols % head_dim == 0);
  STRATA_CHECK(inverse_frequency.size() == head_dim / 2);
}

inline void CheckLogits(const Matrix& logits, std::span<const int32_t> targets,
                        std::span<const SoftmaxRow> rows) {
  STRATA_CHECK(logits.dtype == DType::kF32 && logits.cols > 0);
  STRATA_CHECK(targets.size() == logits.rows && rows.size() == logits.rows);
}

inline void CheckEmbeddingForward(const Matrix& table, std::span<const int32_t> ids,
                                  const Matrix& out) {
  STRATA_CHECK(table.dtype == out.dtype && table.cols == out.cols && ids.size() == out.rows);
}
inline void CheckEmbeddingBackward(std::span<const int32_t> ids, const Matrix& dout,
                                   const Matrix& table_gradient) {
  STRATA_CHECK(table_gradient.dtype == DType::kF32 && table_gradient.cols == dout.cols);
  STRATA_CHECK(ids.size() == dout.rows);
}

}  // namespace strata::engine
