// Elements of any format as fp32, singly and in packs that one instruction moves.
//
// Arithmetic is that of the host's kernels (rows/): no multiply-add is fused unless a source says
// so (nvcc's --fmad=false), divisions and roots are IEEE's, bf16 is cast by ToBf16(). So what is
// computed in the same order has the same bits.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"
#include "engine/kernels/kernels.h"

namespace strata::engine::cuda {

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(Bf16 value) { return FromBf16(value); }
__device__ inline float ToFloat(F16 value) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(value)));
}

template <typename T>
__device__ T FromFloat(float value);
template <>
__device__ inline float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ inline Bf16 FromFloat<Bf16>(float value) {
  return ToBf16(value);
}
template <>
__device__ inline F16 FromFloat<F16>(float value) {
  return F16{__half_as_ushort(__float2half_rn(value))};
}

constexpr size_t kPackBytes = 16;  // of the widest load and store

// N elements, moved by one instruction or a few of the widest.
template <typename T, size_t N>
struct alignas(sizeof(T) * N < kPackBytes ? sizeof(T) * N : kPackBytes) Pack {
  T values[N];
};

// A matrix as a kernel sees it.
template <typename T>
struct View {
  T* data;
  size_t stride;  // elements

  __device__ T* At(size_t row, size_t col) const { return data + row * stride + col; }
};
template <typename T>
View<T> ViewOf(const Matrix& matrix) {
  return {reinterpret_cast<T*>(matrix.data), matrix.stride};
}

// The first N of `count` elements, and zeros where there are fewer. Where there are N, `from` is
// aligned to a pack of them.
template <size_t N, typename T>
__device__ inline void LoadFloats(const T* from, size_t count, float (&to)[N]) {
  if (count >= N) {
    const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
    for (size_t i = 0; i < N; ++i) to[i] = ToFloat(pack.values[i]);
  } else {
    for (size_t i = 0; i < N; ++i) to[i] = i < count ? ToFloat(from[i]) : 0.0f;
  }
}
// The same the other way; what is beyond `count` stays.
template <size_t N, typename T>
__device__ inline void StoreFloats(const float (&from)[N], size_t count, T* to) {
  if (count >= N) {
    Pack<T, N> pack;
    for (size_t i = 0; i < N; ++i) pack.values[i] = FromFloat<T>(from[i]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
  } else {
    for (size_t i = 0; i < N; ++i) {
      if (i < count) to[i] = FromFloat<T>(from[i]);
    }
  }
}

// Calls function(T()), which returns a Status, with T the element type of `dtype`.
template <typename Function>
Status WithElementType(DType dtype, Function function) {
  if (dtype == DType::kF32) return function(float());
  if (dtype == DType::kBf16) return function(Bf16());
  return function(F16());
}

// Calls function(std::integral_constant<size_t, N>()) with N = `pack`, or 1 where not every row of
// all the matrices starts where a pack may.
template <size_t kPack, typename Function>
Status WithPackOf(std::initializer_list<const Matrix*> matrices, Function function) {
  const bool aligned = std::all_of(matrices.begin(), matrices.end(), [](const Matrix* matrix) {
    return reinterpret_cast<uintptr_t>(matrix->data) % kPackBytes == 0 &&
           (matrix->rows <= 1 || matrix->stride * SizeOf(matrix->dtype) % kPackBytes == 0);
  });
  if (aligned) return function(std::integral_constant<size_t, kPack>());
  return function(std::integral_constant<size_t, 1>());
}

}  // namespace strata::engine::cuda
