#include <cstring>

#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"

namespace strata::engine::STRATA_ISA {
namespace {

using DoubleLanes = double __attribute__((vector_size(kLanes * sizeof(double))));

inline void AddSquares(Lanes values, DoubleLanes* sums) {
  const DoubleLanes wide = __builtin_convertvector(values, DoubleLanes);
  *sums += wide * wide;
}

double TotalOf(const DoubleLanes& lanes) {
  double sums[kLanes];
  std::memcpy(sums, &lanes, sizeof(sums));
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

template <typename T>
inline void RoundGroup(const float* __restrict from, T* __restrict to, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] = FromFloat<T>(from[i]);
}

}  // namespace

double SumOfSquaresRow(const std::byte* x, DType dtype, size_t n) {
  DoubleLanes sums{};
  WithElementType(dtype, [&]<typename T>(T) {
    const auto* from = reinterpret_cast<const T*>(x);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) AddSquares(LoadLanes(from + i), &sums);
    if (i < n) AddSquares(LoadLanes(from + i, n - i), &sums);
  });
  return TotalOf(sums);
}

double RoundAndSumSquaresRow(const float* x, std::byte* rounded, DType dtype, size_t n) {
  DoubleLanes sums{};
  WithElementType(dtype, [&]<typename T>(T) {
    auto* to = reinterpret_cast<T*>(rounded);
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      RoundGroup(x + i, to + i, kLanes);
      AddSquares(LoadLanes(to + i), &sums);
    }
    if (i == n) return;
    RoundGroup(x + i, to + i, n - i);
    AddSquares(LoadLanes(to + i, n - i), &sums);
  });
  return TotalOf(sums);
}

}  // namespace strata::engine::STRATA_ISA
