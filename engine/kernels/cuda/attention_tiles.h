// Tiles of attention in shared memory, and what warps do with them on tensor cores.
//
// A warp has strips of 16 rows; sums, scores and probabilities stay in its registers, whose layout
// is that of tensor_cores.h: a lane has rows g and g + 8 of a strip, in each of them columns 2t and
// 2t + 1 of every eight. What four lanes (of one g) have of a row is joined by shuffles.
#pragma once

#include <cuda_runtime.h>

#include "engine/kernels/cuda/attention_arguments.h"
#include "engine/kernels/cuda/dynamic_shared.h"
#include "engine/kernels/cuda/elements.h"
#include "engine/kernels/cuda/tensor_cores.h"

namespace strata::engine::cuda {

inline constexpr unsigned kSide = 16;  // of a left operand
inline constexpr unsigned kWarps = 4;
inline constexpr unsigned kThreads = kWarps * 32;
inline constexpr float kLog2E = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.693147180559945309417f;

__device__ inline unsigned Lane() { return threadIdx.x % 32; }
__device__ inline unsigned Warp() { return threadIdx.x / 32; }
// Where in a strip's rows, and in eight columns, a lane's numbers are.
__device__ inline unsigned RowOfLane() { return Lane() / 4; }      // and 8 below
__device__ inline unsigned ColOfLane() { return Lane() % 4 * 2; }  // and the next

// Rows of kDim elements in shared memory, the first at a multiple of their length. The eights of
// row r stand in the order i ^ r % 8: so eight rows at one column are in different banks.
template <typename T, unsigned kDim>
struct Tile {
  static_assert(kDim == 64 || kDim == 128);
  static_assert(kDim * sizeof(T) <= kDynamicSharedAlignment);
  T* data;

  // `col`: a multiple of 8.
  __device__ T* At(unsigned row, unsigned col) const {
    return data + row * kDim + (col ^ row % 8 * 8);
  }
  template <unsigned kRows>
  static constexpr size_t Bytes() {
    return size_t{kRows} * kDim * sizeof(T);
  }
};

// Starts copying rows of a head, zeros where there are fewer than kRows, or columns beyond the
// head's. By all threads of the block.
template <unsigned kRows, unsigned kDim, typename T>
__device__ void StartLoad(const HeadRows<const T>& from, size_t num_rows, size_t head_dim,
                          const Tile<T, kDim>& tile) {
  constexpr unsigned kPacks = kDim / 8, kRowsAtOnce = kThreads / kPacks;
  static_assert(kRows % kRowsAtOnce == 0);
  const unsigned col = threadIdx.x % kPacks * 8;
  STRATA_UNROLL
  for (unsigned first = 0; first < kRows; first += kRowsAtOnce) {
    const unsigned row = first + threadIdx.x / kPacks;
    const bool is_there = row < num_rows && col < head_dim;  // else the address is not used
    StartCopy<16>(tile.At(row, col), from.Row(row) + col, is_there);
  }
}

// What a lane loads of the 16 x 16 squares of a tile, from a row on that is a multiple of 8: of the
// square at (0, 0) the eight elements at (row, col).
template <typename T, unsigned kDim>
class Squares {
 public:
  __device__ Squares(const Tile<T, kDim>& tile, unsigned first_row, unsigned row, unsigned col)
      : place_(PlaceOf(tile.At(first_row + row, col))) {}
  // Of the square at (row, col), multiples of 16. No carry leaves a row's place.
  __device__ SharedPlace At(unsigned row, unsigned col) const {
    constexpr SharedPlace kBytes = sizeof(T);
    return (place_ ^ col * kBytes) + row * kDim * kBytes;
  }

 private:
  SharedPlace place_;
};

// Squares as operands: left, right (rows are what is summed over), or transposed and right (rows
// are columns of the product). A right one is two: x[0], x[1] of the first eight columns, then the
// rest.
template <typename T, unsigned kDim>
__device__ Squares<T, kDim> LeftSquares(const Tile<T, kDim>& tile, unsigned first_row) {
  return {tile, first_row, Lane() % 16, Lane() / 16 * 8};
}
template <typename T, unsigned kDim>
__device__ Squares<T, kDim> RightSquares(const Tile<T, kDim>& tile) {
  return {tile, 0, Lane() % 16, Lane() / 16 * 8};
}
template <typename T, unsigned kDim>
__device__ Squares<T, kDim> TransposedSquares(const Tile<T, kDim>& tile) {
  return {tile, 0, Lane() / 16 * 8 + Lane() % 8, Lane() / 8 % 2 * 8};
}

// What a warp has of kStrips x 16 rows and kCols columns.
template <unsigned kStrips, unsigned kCols>
struct Sums {
  float x[kStrips][kCols / 8][4];

  __device__ void Zero() {
    ForEach([](float& value, unsigned, unsigned, unsigned) { value = 0.0f; });
  }
  // function(value, strip, row of the strip / 8, column) for each of the lane's numbers.
  template <typename Function>
  __device__ void ForEach(const Function& function) {
    STRATA_UNROLL
    for (unsigned s = 0; s < kStrips; ++s) {
      STRATA_UNROLL
      for (unsigned n = 0; n < kCols / 8; ++n) {
        STRATA_UNROLL
        for (unsigned i = 0; i < 4; ++i)
          function(x[s][n][i], s, i / 2, n * 8 + ColOfLane() + i % 2);
      }
    }
  }
};

// products = rows * cols^T, of the warp's rows from first_row on and all kCols of `cols`.
template <unsigned kStrips, unsigned kCols, typename T, unsigned kDim>
__device__ void MultiplyTransposed(const Tile<T, kDim>& rows, unsigned first_row,
                                   const Tile<T, kDim>& cols, Sums<kStrips, kCols>& products) {
  products.Zero();
  const Squares<T, kDim> lefts = LeftSquares(rows, first_row), rights = TransposedSquares(cols);
  STRATA_UNROLL
  for (unsigned d = 0; d < kDim; d += kSide) {
    uint32_t left[kStrips][4];
    STRATA_UNROLL
    for (unsigned s = 0; s < kStrips; ++s) LoadMatrices(left[s], lefts.At(s * kSide, d));
    STRATA_UNROLL
    for (unsigned n = 0; n < kCols; n += kSide) {
      uint32_t right[4];
      LoadMatrices(right, rights.At(n, d));
      STRATA_UNROLL
      for (unsigned s = 0; s < kStrips; ++s) {
        MultiplyAdd<T>(products.x[s][n / 8], left[s], right[0], right[1]);
        MultiplyAdd<T>(products.x[s][n / 8 + 1], left[s], right[2], right[3]);
      }
    }
  }
}

// sums += weights, rounded to T, * rows.
template <unsigned kStrips, unsigned kCols, typename T, unsigned kDim>
__device__ void AddWeighted(const Sums<kStrips, kCols>& weights, const Tile<T, kDim>& rows,
                            Sums<kStrips, kDim>& sums) {
  const Squares<T, kDim> rights = RightSquares(rows);
  STRATA_UNROLL
  for (unsigned k = 0; k < kCols; k += kSide) {
    uint32_t left[kStrips][4];
    STRATA_UNROLL
    for (unsigned s = 0; s < kStrips; ++s) {
      STRATA_UNROLL
      for (unsigned i = 0; i < 4; ++i) {
        const float* two = weights.x[s][k / 8 + i / 2] + i % 2 * 2;
        left[s][i] = RoundTwo<T>(two[0], two[1]);
      }
    }
    STRATA_UNROLL
    for (unsigned n = 0; n < kDim; n += kSide) {
      uint32_t right[4];
      LoadMatricesTransposed(right, rights.At(k, n));
      STRATA_UNROLL
      for (unsigned s = 0; s < kStrips; ++s) {
        MultiplyAdd<T>(sums.x[s][n / 8], left[s], right[0], right[1]);
        MultiplyAdd<T>(sums.x[s][n / 8 + 1], left[s], right[2], right[3]);
      }
    }
  }
}

// Rounds a warp's sums * factors[strip][row / 8] to rows of a head, from first_row (of the tile) on
// as far as there are num_rows, by way of its own rows of a tile, which nobody else reads.
template <unsigned kStrips, typename T, unsigned kDim>
__device__ void StoreRows(const Sums<kStrips, kDim>& sums, const float (&factors)[kStrips][2],
                          const Tile<T, kDim>& tile, unsigned first_row, const HeadRows<T>& to,
                          size_t num_rows, size_t head_dim) {
  __syncwarp();  // all lanes have read these rows
  STRATA_UNROLL
  for (unsigned s = 0; s < kStrips; ++s) {
    STRATA_UNROLL
    for (unsigned n = 0; n < kDim / 8; ++n) {
      STRATA_UNROLL
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned row = first_row + s * kSide + i * 8 + RowOfLane();
        const float* two = sums.x[s][n] + i * 2;
        *reinterpret_cast<uint32_t*>(tile.At(row, n * 8) + ColOfLane()) =
            RoundTwo<T>(two[0] * factors[s][i], two[1] * factors[s][i]);
      }
    }
  }
  __syncwarp();
  constexpr unsigned kPacks = kDim / 8;
  const unsigned col = Lane() % kPacks * 8;
  for (unsigned i = Lane() / kPacks; i < kStrips * kSide; i += 32 / kPacks) {
    const unsigned row = first_row + i;
    if (row < num_rows && col < head_dim)
      *reinterpret_cast<uint4*>(to.Row(row) + col) =
          *reinterpret_cast<const uint4*>(tile.At(row, col));
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
