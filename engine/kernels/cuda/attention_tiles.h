// Tiles of attention in shared memory, and strips of them on tensor cores.
//
// A block of kWarps warps has a tile of 64 rows, each warp a strip of 16 of them. Which element of
// a matrix fragment a lane holds is not documented: what is done row by row goes through the warp's
// own strip of shared memory, and a factor per row is a fragment of its own.
#pragma once

#include <mma.h>

#include "engine/kernels/cuda/attention_arguments.h"
#include "engine/kernels/cuda/elements.h"
#include "engine/kernels/cuda/load_fragment.h"

namespace strata::engine::cuda {

namespace wmma = nvcuda::wmma;

inline constexpr unsigned kSide = 16;  // of a fragment
inline constexpr unsigned kWarps = 4;
inline constexpr unsigned kThreads = kWarps * 32;
inline constexpr unsigned kTileRows = kWarps * kSide;
inline constexpr float kLog2E = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.693147180559945309417f;

// The type that tensor cores know a format by.
template <typename T>
struct NativeOf;
template <>
struct NativeOf<Bf16> {
  using Type = __nv_bfloat16;
};
template <>
struct NativeOf<F16> {
  using Type = __half;
};
template <typename T>
__device__ inline const typename NativeOf<T>::Type* Native(const T* elements) {
  return reinterpret_cast<const typename NativeOf<T>::Type*>(elements);
}

template <typename T>
using RowsFragment =
    wmma::fragment<wmma::matrix_a, 16, 16, 16, typename NativeOf<T>::Type, wmma::row_major>;
// B as it lies, and B^T.
template <typename T>
using ColsFragment =
    wmma::fragment<wmma::matrix_b, 16, 16, 16, typename NativeOf<T>::Type, wmma::row_major>;
template <typename T>
using TransposedFragment =
    wmma::fragment<wmma::matrix_b, 16, 16, 16, typename NativeOf<T>::Type, wmma::col_major>;
using SumFragment = wmma::fragment<wmma::accumulator, 16, 16, 16, float>;

// Rows of a head in shared memory, kDim columns wide; 16 bytes apart more than that, so that the
// rows of a fragment are in different banks.
template <unsigned kDim>
struct TileLayout {
  static constexpr unsigned kStride = kDim + 8;
  // Where a fragment may begin, and how far apart its rows may be.
  static_assert(kSide * kStride * 2 % 32 == 0 && kStride % 8 == 0);
  template <unsigned kRows>
  static constexpr size_t Bytes() {
    return size_t{kRows} * kStride * 2;
  }
};

// Loads kRows rows of a head from `from` on by all threads of the block; zeros where there are
// fewer, and beyond the head's columns.
template <unsigned kRows, unsigned kDim, typename T>
__device__ void LoadTile(const HeadRows<const T>& from, size_t num_rows, size_t head_dim, T* tile) {
  constexpr unsigned kPacks = kDim / 8;  // of 16 bytes
  for (unsigned i = threadIdx.x; i < kRows * kPacks; i += kThreads) {
    const unsigned row = i / kPacks, col = i % kPacks * 8;
    uint4 pack = {0, 0, 0, 0};
    if (row < num_rows && col < head_dim)
      pack = *reinterpret_cast<const uint4*>(from.Row(row) + col);
    *reinterpret_cast<uint4*>(tile + row * TileLayout<kDim>::kStride + col) = pack;
  }
}

// A warp's 16 rows x kCols of fp32, or in the same memory of 16 bits. Rows are 32 bytes apart more
// than they are long, so that the lanes below meet no bank twice.
template <unsigned kCols>
struct Strip {
  static constexpr unsigned kStride = kCols + 8;
  static constexpr unsigned kBytes = kSide * kStride * sizeof(float);
  static constexpr unsigned kPerLane = kCols / 2;
  static_assert(kBytes % 32 == 0 && kStride % 8 == 0);

  // Two lanes share a row, in turn four columns each. The column of a lane's element i:
  __device__ static unsigned Row() { return threadIdx.x % 32 / 2; }
  __device__ static unsigned Col(unsigned i) { return (i / 4 * 2 + threadIdx.x % 2) * 4 + i % 4; }

  __device__ static void Read(const float* strip, float (&values)[kPerLane]) {
    STRATA_UNROLL
    for (unsigned i = 0; i < kPerLane; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(strip + Row() * kStride + Col(i));
      values[i] = four.x;
      values[i + 1] = four.y;
      values[i + 2] = four.z;
      values[i + 3] = four.w;
    }
  }
  template <typename T>
  __device__ static void Write(const float (&values)[kPerLane], T* strip) {
    STRATA_UNROLL
    for (unsigned i = 0; i < kPerLane; i += 4) {
      Pack<T, 4> four;
      STRATA_UNROLL
      for (unsigned j = 0; j < 4; ++j) four.values[j] = FromFloat<T>(values[i + j]);
      *reinterpret_cast<Pack<T, 4>*>(strip + Row() * kStride + Col(i)) = four;
    }
  }
};

// scores (16 x kCols) = rows (16 x kDim) * cols^T: both lie in shared memory, row after row.
template <unsigned kCols, unsigned kDim, typename T>
__device__ void MultiplyTransposed(const T* rows, const T* cols, float* scores) {
  constexpr unsigned kStride = TileLayout<kDim>::kStride;
  SumFragment sums[kCols / kSide];
  STRATA_UNROLL
  for (unsigned n = 0; n < kCols / kSide; ++n) wmma::fill_fragment(sums[n], 0.0f);
  STRATA_UNROLL
  for (unsigned d = 0; d < kDim; d += kSide) {
    RowsFragment<T> a;
    LoadFragment(a, Native(rows + d), kStride);
    STRATA_UNROLL
    for (unsigned n = 0; n < kCols / kSide; ++n) {
      TransposedFragment<T> b;
      LoadFragment(b, Native(cols + n * kSide * kStride + d), kStride);
      wmma::mma_sync(sums[n], a, b, sums[n]);
    }
  }
  STRATA_UNROLL
  for (unsigned n = 0; n < kCols / kSide; ++n)
    wmma::store_matrix_sync(scores + n * kSide, sums[n], Strip<kCols>::kStride,
                            wmma::mem_row_major);
}

// sums (16 x kDim) += a strip of weights (16 x kCols) * rows.
template <unsigned kCols, unsigned kDim, typename T>
__device__ void AddWeighted(const T* weights, const T* rows, SumFragment (&sums)[kDim / kSide]) {
  STRATA_UNROLL
  for (unsigned k = 0; k < kCols; k += kSide) {
    RowsFragment<T> a;
    LoadFragment(a, Native(weights + k), Strip<kCols>::kStride);
    STRATA_UNROLL
    for (unsigned n = 0; n < kDim / kSide; ++n) {
      ColsFragment<T> b;
      LoadFragment(b, Native(rows + k * TileLayout<kDim>::kStride + n * kSide),
                   TileLayout<kDim>::kStride);
      wmma::mma_sync(sums[n], a, b, sums[n]);
    }
  }
}

// Multiplies each row of sums with the factor that the row's two lanes have. `factors`: 16 x 16 of
// the warp's shared memory.
template <unsigned kCount>
__device__ void ScaleRows(float factor, float* factors, SumFragment (&sums)[kCount]) {
  float4* row = reinterpret_cast<float4*>(factors + threadIdx.x % 32 * 8);  // half a row
  row[0] = row[1] = make_float4(factor, factor, factor, factor);
  __syncwarp();
  SumFragment of_rows;  // laid out as the sums are, however that is
  wmma::load_matrix_sync(of_rows, factors, kSide, wmma::mem_row_major);
  STRATA_UNROLL
  for (unsigned n = 0; n < kCount; ++n) {
    STRATA_UNROLL
    for (int i = 0; i < SumFragment::num_elements; ++i) sums[n].x[i] *= of_rows.x[i];
  }
}

// Rounds a warp's sums to rows of a head, by way of its strip of kCols columns.
template <unsigned kCols, unsigned kDim, typename T>
__device__ void StoreSums(const SumFragment (&sums)[kDim / kSide], float* strip,
                          const HeadRows<T>& to, size_t first_row, size_t end_row,
                          size_t head_dim) {
  STRATA_UNROLL
  for (unsigned first = 0; first < kDim; first += kCols) {
    __syncwarp();
    STRATA_UNROLL
    for (unsigned n = 0; n < kCols / kSide; ++n)
      wmma::store_matrix_sync(strip + n * kSide, sums[first / kSide + n], Strip<kCols>::kStride,
                              wmma::mem_row_major);
    __syncwarp();
    float values[Strip<kCols>::kPerLane];
    Strip<kCols>::Read(strip, values);
    const size_t row = first_row + Strip<kCols>::Row();
    STRATA_UNROLL
    for (unsigned i = 0; i < Strip<kCols>::kPerLane; i += 4) {
      const unsigned col = first + Strip<kCols>::Col(i);
      Pack<T, 4> four;
      STRATA_UNROLL
      for (unsigned j = 0; j < 4; ++j) four.values[j] = FromFloat<T>(values[i + j]);
      if (row < end_row && col < head_dim) *reinterpret_cast<Pack<T, 4>*>(to.Row(row) + col) = four;
    }
  }
}

// Calls function(T(), std::integral_constant<unsigned, kDim>()) for a format of 16 bits and the
// width of tiles that a head fits.
template <typename Function>
Status WithTileWidth(DType dtype, size_t head_dim, Function function) {
  using Narrow = std::integral_constant<unsigned, 64>;
  using Wide = std::integral_constant<unsigned, 128>;
  if (dtype == DType::kBf16)
    return head_dim <= 64 ? function(Bf16(), Narrow()) : function(Bf16(), Wide());
  return head_dim <= 64 ? function(F16(), Narrow()) : function(F16(), Wide());
}

}  // namespace strata::engine::cuda
