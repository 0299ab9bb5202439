#include <array>
#include <span>
#include <utility>

#include "aio/base/check.h"
#include "engine/kernels/internal/cpu_kernels.h"

namespace strata::engine {
namespace {

struct TileSize {
  size_t rows, cols;
};
// From the fastest (tests/bench/engine/kernels_bench.cc: within a few percent of the whole product
// at once) to the smallest that does not waste its time on packing.
constexpr std::array<TileSize, 4> kTileSizes = {{{512, 512}, {256, 512}, {256, 256}, {128, 256}}};
// Where the buffer that a product is rounded to bf16 from has to hold a tile: 512 KiB per thread.
constexpr std::span kBufferedTileSizes = std::span(kTileSizes).subspan(1);
constexpr size_t kBufferFloats = kBufferedTileSizes[0].rows * kBufferedTileSizes[0].cols;
// What 2 to 16 threads can share evenly enough.
constexpr size_t kEnoughTiles = 16;

struct Tiling {
  Cuts rows, cols;
  size_t count() const { return rows.count() * cols.count(); }
};

// By shape alone. Never along the depth: a sum is one thread's.
Tiling ChooseTiling(size_t rows, size_t cols, std::span<const TileSize> sizes) {
  Tiling tiling;
  for (const TileSize& size : sizes) {
    // The last tiles may be small: equal ones of odd sizes cost oneDNN more.
    tiling = {{rows, size.rows}, {cols, size.cols}};
    if (tiling.count() >= kEnoughTiles) break;
  }
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
  // A product that is rounded to bf16 goes through a buffer, so that the cast is ours.
  const bool rounds = out.dtype != DType::kF32;
  if (rounds) ReserveTileBuffers(kBufferFloats);
  const Tiling tiling = rounds ? ChooseTiling(out.rows, out.cols, kBufferedTileSizes)
                               : ChooseTiling(out.rows, out.cols, kTileSizes);
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
