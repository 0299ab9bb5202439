// Stands in for CUDA's header of the same name: tiles of 16x16x16 of 16-bit formats with fp32 sums.
//
// Element e of a tile, row by row, is element e % 8 of lane e / 8. That is not the layout of any
// GPU, which is not documented either. Products are summed in fp32 in ascending order of k.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

namespace internal {
inline constexpr int kSide = 16;
inline constexpr int kPerLane = kSide * kSide / 32;
inline float ToFloat(float x) { return x; }
inline float ToFloat(__half x) { return __half2float(x); }
inline float ToFloat(__nv_bfloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
inline unsigned Element(int i) {
  return static_cast<unsigned>(strata::fakes::cuda::LaneOfThread() * kPerLane + i);
}
template <typename T>
const T& At(const T* tile, unsigned element, unsigned stride, bool is_row_major) {
  const unsigned row = element / kSide, col = element % kSide;
  return is_row_major ? tile[row * stride + col] : tile[col * stride + row];
}
}  // namespace internal

template <typename Use, int m, int n, int k, typename T, typename Layout = void>
struct fragment {
  static_assert(m == 16 && n == 16 && k == 16, "the emulator knows 16x16x16 only");
  using element_type = T;
  static constexpr int num_elements = internal::kPerLane;
  T x[num_elements];
};

template <typename Fragment, typename T>
void fill_fragment(Fragment& fragment, T value) {
  for (auto& x : fragment.x) x = value;
}

template <typename Use, typename T, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& to, const T* from, unsigned stride) {
  strata::fakes::cuda::WarpBarrier();
  for (int i = 0; i < to.num_elements; ++i)
    to.x[i] = internal::At(from, internal::Element(i), stride, std::is_same_v<Layout, row_major>);
}
template <typename T>
void load_matrix_sync(fragment<accumulator, 16, 16, 16, T>& to, const T* from, unsigned stride,
                      layout_t layout) {
  strata::fakes::cuda::WarpBarrier();
  for (int i = 0; i < to.num_elements; ++i)
    to.x[i] = internal::At(from, internal::Element(i), stride, layout == mem_row_major);
}
template <typename T>
void store_matrix_sync(T* to, const fragment<accumulator, 16, 16, 16, T>& from, unsigned stride,
                       layout_t layout) {
  for (int i = 0; i < from.num_elements; ++i)
    const_cast<T&>(internal::At(to, internal::Element(i), stride, layout == mem_row_major)) =
        from.x[i];
  strata::fakes::cuda::WarpBarrier();
}

template <typename T, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& d,
              const fragment<matrix_a, 16, 16, 16, T, LayoutA>& a,
              const fragment<matrix_b, 16, 16, 16, T, LayoutB>& b,
              const fragment<accumulator, 16, 16, 16, float>& c) {
  constexpr int kSide = internal::kSide;
  float whole_a[kSide * kSide], whole_b[kSide * kSide];
  for (int i = 0; i < internal::kPerLane; ++i) {
    const float mine[2] = {internal::ToFloat(a.x[i]), internal::ToFloat(b.x[i])};
    const uint64_t* all = strata::fakes::cuda::Exchange(mine, sizeof mine);
    for (int lane = 0; lane < 32; ++lane) {
      float theirs[2];
      std::memcpy(theirs, all + lane, sizeof theirs);
      whole_a[lane * internal::kPerLane + i] = theirs[0];
      whole_b[lane * internal::kPerLane + i] = theirs[1];
    }
  }
  for (int i = 0; i < internal::kPerLane; ++i) {
    const unsigned row = internal::Element(i) / kSide, col = internal::Element(i) % kSide;
    float sum = c.x[i];
    for (unsigned k = 0; k < kSide; ++k)
      sum = std::fma(whole_a[row * kSide + k], whole_b[k * kSide + col], sum);
    d.x[i] = sum;
  }
}

}  // namespace nvcuda::wmma
