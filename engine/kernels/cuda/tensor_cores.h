// A warp's part of tensor cores and of copies to shared memory: PTX instructions as functions.
//
// Their layouts are documented (PTX ISA, "Matrix Fragments for mma.m16n8k16", "ldmatrix"). With
// g = lane / 4 and t = lane % 4, a lane holds two neighbours of 16 bits in each 32-bit register:
//
//   left operand (16 rows x 16)  x[0]: row g, cols 2t..   x[1]: row g + 8, cols 2t..
//                                x[2]: row g, cols 2t + 8..   x[3]: row g + 8, cols 2t + 8..
//   right operand (16 x 8 cols)  x[0]: rows 2t.. of col g   x[1]: rows 2t + 8.. of col g
//   sums (16 rows x 8 cols)      x[0], x[1]: row g, cols 2t..   x[2], x[3]: row g + 8, cols 2t..
//
// So sums of two neighbouring products, rounded, are a left operand of the next one.
//
// All lanes of the warp take part in LoadMatrices() and MultiplyAdd(). T is Bf16 or F16.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "engine/kernels/dtype.h"

namespace strata::engine::cuda {

// An address in shared memory, as a number: of a constant that is added, instructions take care.
using SharedPlace = uint32_t;
__device__ __forceinline__ SharedPlace PlaceOf(const void* in_shared) {
  return static_cast<SharedPlace>(__cvta_generic_to_shared(in_shared));
}

// Four matrices of 8 x 8 elements of 16 bits, each row 16 aligned bytes of shared memory: lane i
// names row i % 8 of matrix i / 8. x[j]: row g, cols 2t.. of matrix j.
__device__ __forceinline__ void LoadMatrices(uint32_t (&x)[4], SharedPlace row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}
// x[j]: rows 2t.. of col g of matrix j.
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&x)[4], SharedPlace row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(row)
               : "memory");
}

// sums += left * right, with right = (right0, right1).
template <typename T>
__device__ __forceinline__ void MultiplyAdd(float (&sums)[4], const uint32_t (&left)[4],
                                            uint32_t right0, uint32_t right1) {
  if constexpr (std::is_same_v<T, Bf16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
  }
}

// Two neighbours, `first` in the lower half, each rounded to nearest, ties to even.
template <typename T>
__device__ __forceinline__ uint32_t RoundTwo(float first, float second) {
  uint32_t both;
  if constexpr (std::is_same_v<T, Bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  }
  return both;
}

// 2^x within 2 units in the last place; 0 where that is below 2^-126.
__device__ __forceinline__ float ExpOfTwo(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// Starts copying kBytes (4 or 16, so aligned) to shared memory, or writing zeros there: then
// `from` is not read. The thread sees them once it has waited, others after a barrier behind that.
template <unsigned kBytes>
__device__ __forceinline__ void StartCopy(void* to, const void* from, bool is_there) {
  static_assert(kBytes == 4 || kBytes == 16);
  const uint32_t size = is_there ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(PlaceOf(to)), "l"(from), "r"(size)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(PlaceOf(to)), "l"(from), "r"(size)
                 : "memory");
  }
}
// What was started since the last call is a group.
__device__ __forceinline__ void EndCopyGroup() {
  asm volatile("cp.async.commit_group;" : : : "memory");
}
// Until at most the kLeft last groups are under way.
template <unsigned kLeft>
__device__ __forceinline__ void WaitForCopyGroups() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kLeft) : "memory");
}

}  // namespace strata::engine::cuda
