// A vector register of floats, and a fused multiply-add on it: of each lane the product and the sum
// rounded once, which is the same on every instruction set. The compiler has no notation of its own
// for that on vectors.
#pragma once

#include <cstddef>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace strata::engine {
namespace {

#if defined(__AVX512F__)
constexpr size_t kFmaLanes = 16;
#elif defined(__AVX2__)
constexpr size_t kFmaLanes = 8;
#else
constexpr size_t kFmaLanes = 4;
#endif
using FmaLanes = float __attribute__((vector_size(kFmaLanes * sizeof(float))));

inline FmaLanes Broadcast(float value) {
#if defined(__AVX512F__)
  return (FmaLanes)_mm512_set1_ps(value);
#elif defined(__AVX2__)
  return (FmaLanes)_mm256_set1_ps(value);
#else
  return FmaLanes{value, value, value, value};
#endif
}

inline FmaLanes MultiplyAdd(FmaLanes a, FmaLanes b, FmaLanes sum) {
#if defined(__AVX512F__)
  return (FmaLanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX2__)
  return (FmaLanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
  for (size_t i = 0; i < kFmaLanes; ++i) sum[i] = __builtin_fmaf(a[i], b[i], sum[i]);
  return sum;
#endif
}

}  // namespace
}  // namespace strata::engine
