#include <utility>

#include "aio/base/check.h"
#include "aio/base/units.h"
#include "engine/kernels/internal/cpu_kernels.h"

namespace strata::engine {
namespace {

// Bounds the buffer that a product is rounded to bf16 from: 512 KiB per thread.
constexpr size_t kMaxTileRows = 256;
constexpr size_t kMaxTileCols = 512;
// Smaller tiles than these waste time on packing (tests/bench/kernels_bench.cc).
constexpr size_t kMinTileRows = 128;
constexpr size_t kMinTileCols = 256;
// What 2 to 16 threads can share evenly enough.
constexpr size_t kEnoughTiles = 16;

struct Tiling {
  Cuts rows, cols;
  size_t count() const { return rows.count() * cols.count(); }
};

// Equal tiles, no larger than asked, their sizes multiples of what oneDNN's inner loops take.
Cuts CutEvenly(size_t total, size_t max_piece) {
  constexpr size_t kMultiple = 16;
  return {total, RoundUp(CeilDiv(total, CeilDiv(total, max_piece)), kMultiple)};
}

// By shape alone. Never along the depth: a sum is one thread's.
Tiling ChooseTiling(size_t rows, size_t cols) {
  Tiling tiling{CutEvenly(rows, kMaxTileRows), CutEvenly(cols, kMaxTileCols)};
  if (tiling.count() < kEnoughTiles) tiling.cols = CutEvenly(cols, kMinTileCols);
  if (tiling.count() < kEnoughTiles) tiling.rows = CutEvenly(rows, kMinTileRows);
  return tiling;
}

struct Operand {
  const Matrix& matrix;
  Transpose transpose;

  bool transposed() const { return transpose == Transpose::kYes; }
  size_t rows() const { return transposed() ? matrix.cols : matrix.rows; }
  size_t cols() const { return transposed() ? matrix.rows : matrix.cols; }
  const std::byte* At(size_t row, size_t col) const {
    if (transposed()) std::swap(row, col);
    return matrix.data + (row * matrix.stride + col) * SizeOf(matrix.dtype);
  }
};

void CheckShapes(const Operand& a, const Operand& b, const Matrix& out, Output output) {
  STRATA_CHECK(a.matrix.dtype == b.matrix.dtype);
  STRATA_CHECK(a.rows() == out.rows && b.cols() == out.cols);
  STRATA_CHECK(a.cols() == b.rows() && a.cols() > 0);
  STRATA_CHECK(out.dtype == DType::kF32 || output == Output::kOverwrite);
}

}  // namespace

Status CpuKernels::MatMul(const Stream&, const Matrix& a_matrix, Transpose transpose_a,
                          const Matrix& b_matrix, Transpose transpose_b, const Matrix& out,
                          Output output) {
  const Operand a{a_matrix, transpose_a}, b{b_matrix, transpose_b};
  CheckShapes(a, b, out, output);
  if (out.rows == 0 || out.cols == 0) return OkStatus();
  const Tiling tiling = ChooseTiling(out.rows, out.cols);
  // A product that is rounded to bf16 goes through a buffer, so that the cast is ours.
  const bool rounds = out.dtype != DType::kF32;
  if (rounds) ReserveTileBuffers(kMaxTileRows * kMaxTileCols);
  const size_t stride_out = rounds ? tiling.cols.piece : out.stride;
  STRATA_ASSIGN_OR_RETURN(
      const TileProducts products,
      TileProducts::Prepare(products_, tiling.rows, tiling.cols, [&](size_t rows, size_t cols) {
        return ProductShape{a.matrix.dtype, transpose_a,     transpose_b,     output,    rows, cols,
                            a.cols(),       a.matrix.stride, b.matrix.stride, stride_out};
      }));

  FirstFailure failure;
  pool_.ParallelFor(tiling.count(), [&](size_t i, uint32_t thread) {
    const size_t row = tiling.rows.begin(i % tiling.rows.count());
    const size_t col = tiling.cols.begin(i / tiling.rows.count());
    const Matrix tile = Part(out, row, tiling.rows.piece, col, tiling.cols.piece);
    Matrix product = tile;
    if (rounds) {
      product.data = reinterpret_cast<std::byte*>(tile_buffers_[thread].data());
      product.dtype = DType::kF32;
      product.stride = stride_out;
    }
    failure.Note(products.For(tile.rows, tile.cols)
                     .Run(products_.thread(thread), a.At(row, 0), b.At(0, col),
                          reinterpret_cast<float*>(product.data)));
    if (rounds) rows_.cast(product, tile);
  });
  return failure.status();
}

}  // namespace strata::engine
