// Fragments of matrices from shared memory, for tensor cores.
//
// wmma::load_matrix_sync() does this for fp16. For bf16 nvcc (13.0) does not see that the memory is
// shared and makes four general loads of what is one load of a matrix, so that is said to it in
// PTX.
#pragma once

#include <mma.h>

#include <cstdint>
#include <type_traits>

namespace strata::engine::cuda {

namespace internal {
template <typename Layout>
using FragmentA = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, Layout>;
template <typename Layout>
using FragmentB = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, Layout>;
}  // namespace internal

// All lanes of the warp take part. `from` is in shared memory, aligned to 32 bytes, and stride a
// multiple of 8 elements.
template <typename Fragment>
__device__ __forceinline__ void LoadFragment(Fragment& to,
                                             const typename Fragment::element_type* from,
                                             unsigned stride) {
  using nvcuda::wmma::col_major;
  using nvcuda::wmma::row_major;
  if constexpr (std::is_same_v<typename Fragment::element_type, __nv_bfloat16>) {
    uint32_t* x = reinterpret_cast<uint32_t*>(to.x);
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(from));
    if constexpr (std::is_same_v<Fragment, internal::FragmentA<row_major>>) {
      asm volatile("wmma.load.a.sync.aligned.row.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(address), "r"(stride)
                   : "memory");
    } else if constexpr (std::is_same_v<Fragment, internal::FragmentB<row_major>>) {
      asm volatile("wmma.load.b.sync.aligned.row.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(address), "r"(stride)
                   : "memory");
    } else {
      static_assert(std::is_same_v<Fragment, internal::FragmentB<col_major>>);
      asm volatile("wmma.load.b.sync.aligned.col.m16n16k16.shared.bf16 {%0, %1, %2, %3}, [%4], %5;"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(address), "r"(stride)
                   : "memory");
    }
  } else {
    nvcuda::wmma::load_matrix_sync(to, from, stride);
  }
}

}  // namespace strata::engine::cuda
