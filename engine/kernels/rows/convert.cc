#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"

namespace strata::engine::STRATA_ISA {
namespace {

template <typename T>
void AddRow(const T* a, const T* b, T* out, size_t n) {
#pragma GCC ivdep  // out may be a or b
  for (size_t i = 0; i < n; ++i) out[i] = FromFloat<T>(ToFloat(a[i]) + ToFloat(b[i]));
}

template <typename From, typename To>
void CastRow(const From* __restrict from, To* __restrict to, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = FromFloat<To>(ToFloat(from[i]));
}

template <typename T>
void AddTo(const T* __restrict from, float* __restrict sum, size_t n) {
  for (size_t i = 0; i < n; ++i) sum[i] += ToFloat(from[i]);
}

}  // namespace

void AddRows(const Matrix& a, const Matrix& b, const Matrix& out) {
  WithElementType(a.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < a.rows; ++row) {
      AddRow(RowOf<const T>(a, row), RowOf<const T>(b, row), RowOf<T>(out, row), a.cols);
    }
  });
}

void CastRows(const Matrix& from, const Matrix& to) {
  WithElementType(from.dtype, [&]<typename From>(From) {
    WithElementType(to.dtype, [&]<typename To>(To) {
      for (size_t row = 0; row < from.rows; ++row) {
        CastRow(RowOf<const From>(from, row), RowOf<To>(to, row), from.cols);
      }
    });
  });
}

void ScatterAddRows(const int32_t* ids, size_t first_id, const Matrix& from, const Matrix& to) {
  WithElementType(from.dtype, [&]<typename T>(T) {
    for (size_t row = 0; row < from.rows; ++row) {
      const size_t id = static_cast<size_t>(ids[row]);
      if (id < first_id || id - first_id >= to.rows) continue;
      AddTo(RowOf<const T>(from, row), RowOf<float>(to, id - first_id), from.cols);
    }
  });
}

}  // namespace strata::engine::STRATA_ISA
