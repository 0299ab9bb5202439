// Products of one tile: every element of the output is one chain of fused multiply-adds along the
// depth, in its order, that starts at zero or at what is there. How the tile is cut and packed, by
// the width of the machine's registers, does not show in that.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/kernels/rows/declarations.h"
#include "engine/kernels/rows/elements.h"
#include "engine/kernels/rows/fma_lanes.h"

namespace strata::engine::STRATA_ISA {
namespace {

// What is kept in registers: rows x two vectors of columns.
constexpr size_t kRegisterRows = kFmaLanes == 16 ? 14 : kFmaLanes == 8 ? 6 : 4;
constexpr size_t kRegisterCols = 2 * kFmaLanes;
// A strip of columns of this depth stays in the first cache while rows go by.
constexpr size_t kStripDepth = 256;

inline FmaLanes Load(const float* from) {
  FmaLanes lanes;
  std::memcpy(&lanes, from, sizeof(lanes));
  return lanes;
}
inline void Store(FmaLanes lanes, float* to) { std::memcpy(to, &lanes, sizeof(lanes)); }

// a: [depth][kRegisterRows], b: [depth][kRegisterCols]; the chains start at zero, or at what is in
// out.
template <Output kOutput>
inline void MultiplyBlock(size_t depth, const float* __restrict a, const float* __restrict b,
                          float* __restrict out, size_t stride) {
  FmaLanes sums[kRegisterRows][2];
#pragma GCC unroll 16
  for (size_t row = 0; row < kRegisterRows; ++row) {
    const bool starts_at_zero = kOutput == Output::kOverwrite;
    sums[row][0] = starts_at_zero ? FmaLanes{} : Load(out + row * stride);
    sums[row][1] = starts_at_zero ? FmaLanes{} : Load(out + row * stride + kFmaLanes);
  }
  for (size_t k = 0; k < depth; ++k) {
    const FmaLanes left = Load(b), right = Load(b + kFmaLanes);
#pragma GCC unroll 16
    for (size_t row = 0; row < kRegisterRows; ++row) {
      const FmaLanes factor = Broadcast(a[row]);
      sums[row][0] = MultiplyAdd(factor, left, sums[row][0]);
      sums[row][1] = MultiplyAdd(factor, right, sums[row][1]);
    }
    a += kRegisterRows;
    b += kRegisterCols;
  }
#pragma GCC unroll 16
  for (size_t row = 0; row < kRegisterRows; ++row) {
    Store(sums[row][0], out + row * stride);
    Store(sums[row][1], out + row * stride + kFmaLanes);
  }
}

// A block that is cut off by the edge of the tile is computed whole, beside it.
template <Output kOutput>
void MultiplyEdge(size_t depth, const float* a, const float* b, float* out, size_t stride,
                  size_t rows, size_t cols) {
  float whole[kRegisterRows * kRegisterCols] = {};
  for (size_t row = 0; kOutput == Output::kAccumulate && row < rows; ++row)
    std::memcpy(whole + row * kRegisterCols, out + row * stride, cols * sizeof(float));
  MultiplyBlock<kOutput>(depth, a, b, whole, kRegisterCols);
  for (size_t row = 0; row < rows; ++row)
    std::memcpy(out + row * stride, whole + row * kRegisterCols, cols * sizeof(float));
}

// Sixteen rows of sixteen elements, transposed: after step s, blocks of s are where they belong.
template <size_t kStep>
inline void TransposeStep(Lanes* rows) {
  LaneBits low{}, high{};
  for (uint32_t i = 0; i < kLanes; ++i) {
    const bool is_second = (i & kStep) != 0;
    low[i] = is_second ? kLanes + i - kStep : i;
    high[i] = is_second ? kLanes + i : i + kStep;
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    const Lanes first = rows[i], second = rows[i + kStep];
    rows[i] = __builtin_shuffle(first, second, low);
    rows[i + kStep] = __builtin_shuffle(first, second, high);
  }
}

inline void Transpose16(Lanes* rows) {
  TransposeStep<1>(rows);
  TransposeStep<2>(rows);
  TransposeStep<4>(rows);
  TransposeStep<8>(rows);
}

// Lines of an operand become [depth][kPanel] in fp32: a panel. Whole vectors are written, beyond
// the panel, too, where the next ones overwrite them.

// From kLanes lines or fewer, each contiguous along the depth, to lanes `first` of the panel on.
template <size_t kPanel, typename T>
void PackAlongDepth(const T* from, size_t stride, size_t count, size_t depth, float* to) {
  Lanes rows[kLanes] = {};
  size_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    for (size_t i = 0; i < count; ++i) rows[i] = LoadLanes(from + i * stride + k);
    Transpose16(rows);
#pragma GCC unroll 16
    for (size_t i = 0; i < kLanes; ++i) std::memcpy(to + (k + i) * kPanel, &rows[i], sizeof(Lanes));
    if (count < kLanes) std::fill(rows + count, rows + kLanes, Lanes{});
  }
  if (k == depth) return;
  for (size_t i = 0; i < count; ++i) rows[i] = LoadLanes(from + i * stride + k, depth - k);
  Transpose16(rows);
  for (size_t i = 0; k + i < depth; ++i)
    std::memcpy(to + (k + i) * kPanel, &rows[i], sizeof(Lanes));
}

// From lines that lie side by side, `available` of them from this one on; `stride` leads along the
// depth.
template <size_t kPanel, typename T>
void PackAcrossDepth(const T* from, size_t stride, size_t available, size_t depth, float* to) {
  const size_t count = std::min(kLanes, available);
  if (count == kLanes) {
    for (size_t k = 0; k < depth; ++k) {
      const Lanes lanes = LoadLanes(from + k * stride);
      std::memcpy(to + k * kPanel, &lanes, sizeof(lanes));
    }
    return;
  }
  for (size_t k = 0; k < depth; ++k) {
    const Lanes lanes = LoadLanes(from + k * stride, count);
    std::memcpy(to + k * kPanel, &lanes, sizeof(lanes));
  }
}

// All lines of an operand, panel after panel, with zeros in what is left of the last one.
template <size_t kPanel, typename T>
void Pack(const T* from, bool along_depth, size_t stride, size_t lines, size_t depth, float* to) {
  for (size_t line = 0; line < lines; line += kPanel, to += kPanel * depth) {
    for (size_t first = 0; first < kPanel; first += kLanes) {
      const size_t left = lines - std::min(lines, line + first);
      if (along_depth)
        PackAlongDepth<kPanel>(from + (line + first) * stride, stride,
                               std::min({left, kLanes, kPanel - first}), depth, to + first);
      else
        PackAcrossDepth<kPanel>(from + line + first, stride, left, depth, to + first);
    }
  }
}

template <Output kOutput>
void MultiplyPacked(const ProductTile& tile, size_t depth, const float* a, const float* b) {
  for (size_t col = 0; col < tile.cols; col += kRegisterCols, b += depth * kRegisterCols) {
    const size_t cols = std::min(kRegisterCols, tile.cols - col);
    const float* rows_of_a = a;
    for (size_t row = 0; row < tile.rows; row += kRegisterRows) {
      const size_t rows = std::min(kRegisterRows, tile.rows - row);
      float* out = tile.out + row * tile.stride_out + col;
      if (rows == kRegisterRows && cols == kRegisterCols)
        MultiplyBlock<kOutput>(depth, rows_of_a, b, out, tile.stride_out);
      else
        MultiplyEdge<kOutput>(depth, rows_of_a, b, out, tile.stride_out, rows, cols);
      rows_of_a += depth * kRegisterRows;
    }
  }
}

constexpr size_t RoundUpTo(size_t piece, size_t n) { return (n + piece - 1) / piece * piece; }

float* AlignedToLine(float* memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  return reinterpret_cast<float*>((address + 63) / 64 * 64);
}

template <typename T>
void MultiplyAs(const ProductTile& tile) {
  const auto* a = reinterpret_cast<const T*>(tile.a);
  const auto* b = reinterpret_cast<const T*>(tile.b);
  const bool a_along = tile.transpose_a == Transpose::kNo;
  const bool b_along = tile.transpose_b == Transpose::kYes;
  // First what is read in whole vectors: none may cross a line of the cache.
  float* packed_b = AlignedToLine(tile.scratch);
  float* packed_a = packed_b + kStripDepth * RoundUpTo(kRegisterCols, tile.cols) + kLanes;
  for (size_t k = 0; k < tile.depth; k += kStripDepth) {
    const size_t depth = std::min(kStripDepth, tile.depth - k);
    Pack<kRegisterRows>(a + k * (a_along ? 1 : tile.stride_a), a_along, tile.stride_a, tile.rows,
                        depth, packed_a);
    Pack<kRegisterCols>(b + k * (b_along ? 1 : tile.stride_b), b_along, tile.stride_b, tile.cols,
                        depth, packed_b);
    if (k == 0 && tile.output == Output::kOverwrite)
      MultiplyPacked<Output::kOverwrite>(tile, depth, packed_a, packed_b);
    else
      MultiplyPacked<Output::kAccumulate>(tile, depth, packed_a, packed_b);
  }
}

}  // namespace

size_t ProductScratchFloats(size_t rows, size_t cols) {
  return kStripDepth * (RoundUpTo(kRegisterRows, rows) + RoundUpTo(kRegisterCols, cols)) +
         3 * kLanes;  // to align, and beyond either
}

void MultiplyTile(const ProductTile& tile) {
  WithElementType(tile.dtype, [&]<typename T>(T) { MultiplyAs<T>(tile); });
}

}  // namespace strata::engine::STRATA_ISA
