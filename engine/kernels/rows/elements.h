// Elements of any format as fp32, one by one and sixteen at a time. Loops over these are what
// the compiler turns into vectors.
//
// Everything is internal to its source file: a function shared between instruction sets could be
// linked from the one that this machine cannot run.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "engine/kernels/kernels.h"

namespace strata::engine {
namespace {

inline float ToFloat(float value) { return value; }
inline float ToFloat(Bf16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

inline float ToFloat(F16 value) { return static_cast<float>(std::bit_cast<_Float16>(value)); }

template <typename T>
inline T FromFloat(float value);
template <>
inline F16 FromFloat<F16>(float value) {
  return std::bit_cast<F16>(static_cast<_Float16>(value));
}
template <>
inline float FromFloat<float>(float value) {
  return value;
}
// ToBf16 of dtype.h with a choice in place of the branch, which vectorises.
template <>
inline Bf16 FromFloat<Bf16>(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x8000u) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x0040u;
  return static_cast<Bf16>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

template <typename T>
inline T* RowOf(const Matrix& matrix, size_t row) {
  return reinterpret_cast<T*>(matrix.data) + row * matrix.stride;
}

// Calls function(T()) with T the element type of `dtype`.
template <typename Function>
inline void WithElementType(DType dtype, Function function) {
  if (dtype == DType::kF32) {
    function(float());
  } else if (dtype == DType::kBf16) {
    function(Bf16());
  } else {
    function(F16());
  }
}

// Sixteen accumulators, whatever the width of the machine's registers, so that a sum has one order
// everywhere: element i goes to lane i % 16, then the lanes are added as a tree.
constexpr size_t kLanes = 16;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using LaneBits = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));
using LaneHalves = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));

inline Lanes LoadLanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
inline Lanes LoadLanes(const Bf16* from) {
  LaneHalves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return (Lanes)(__builtin_convertvector(halves, LaneBits) << 16);
}
inline Lanes LoadLanes(const F16* from) {
  float lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = ToFloat(from[i]);
  return LoadLanes(lanes);
}
// The first `count` elements, then `filler`.
template <typename T>
inline Lanes LoadLanes(const T* from, size_t count, float filler = 0) {
  if (count == kLanes) return LoadLanes(from);
  float lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = i < count ? ToFloat(from[i]) : filler;
  return LoadLanes(lanes);
}

// combine(running, lanes) over n elements in groups of sixteen; load(i, count) gives the group that
// starts at i, count < 16 only in the last.
template <typename Load, typename Combine>
inline Lanes ReduceLanes(size_t n, Lanes running, Load load, Combine combine) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) running = combine(running, load(i, kLanes));
  if (i < n) running = combine(running, load(i, n - i));
  return running;
}

// The sum over i < n of what load(i, count) gives.
template <typename Load>
inline Lanes SumLanes(size_t n, Load load) {
  return ReduceLanes(n, Lanes{}, load, [](Lanes sum, Lanes value) { return sum + value; });
}

inline float SumOf(Lanes lanes) {
  float sums[kLanes];
  std::memcpy(sums, &lanes, sizeof(sums));
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

// NaN never wins, but makes its own exponential NaN and so the sum over the row.
inline float Maximum(const float* x, size_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const Lanes lanes = ReduceLanes(
      n, Lanes{} + kLowest,
      [x](size_t i, size_t count) { return LoadLanes(x + i, count, kLowest); },
      [](Lanes maximum, Lanes value) { return value > maximum ? value : maximum; });
  float maximum = lanes[0];
  for (size_t i = 1; i < kLanes; ++i) maximum = lanes[i] > maximum ? lanes[i] : maximum;
  return maximum;
}

}  // namespace
}  // namespace strata::engine
