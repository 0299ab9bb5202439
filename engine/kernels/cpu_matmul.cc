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
// From the fastest to the smallest that does not waste its time on packing.
constexpr std::array<TileSize, 4> kTileSizes = {{{512, 512}, {256, 512}, {256, 256}, {128, 256}}};
// Where the buffer that a product is rounded from has to hold a tile: 512 KiB per thread.
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
    // The last tiles may be small: equal ones of odd sizes would have more edges.
    tiling = {{rows, size.rows}, {cols, size.cols}};
    if (tiling.count() >= kEnoughTiles) break;
  }
  return tiling;
}

void CheckShapes(const ProductOperand& a, const ProductOperand& b, const Matrix& out,
                 Output output) {
  STRATA_CHECK(a.matrix.dtype == b.matrix.dtype);
  STRATA_CHECK(a.rows() == out.rows && b.cols() == out.cols);
  STRATA_CHECK(a.cols() == b.rows() && a.cols() > 0);
  STRATA_CHECK(out.dtype == DType::kF32 || output == Output::kOverwrite);
}

}  // namespace

Status CpuKernels::MatMul(const Stream&, const Matrix& a_matrix, Transpose transpose_a,
                          const Matrix& b_matrix, Transpose transpose_b, const Matrix& out,
                          Output output, std::span<std::byte>) {
  const ProductOperand a{a_matrix, transpose_a}, b{b_matrix, transpose_b};
  CheckShapes(a, b, out, output);
  if (out.rows == 0 || out.cols == 0) return OkStatus();
  // A product that is rounded goes through a buffer.
  const bool rounds = out.dtype != DType::kF32;
  if (rounds) ReserveTileBuffers(kBufferFloats);
  const Tiling tiling = rounds ? ChooseTiling(out.rows, out.cols, kBufferedTileSizes)
                               : ChooseTiling(out.rows, out.cols, kTileSizes);
  pool_.ParallelFor(tiling.count(), [&](size_t i, uint32_t thread) {
    const size_t row = tiling.rows.begin(i % tiling.rows.count());
    const size_t col = tiling.cols.begin(i / tiling.rows.count());
    const Matrix tile = Part(out, row, tiling.rows.piece, col, tiling.cols.piece);
    const Matrix part_a = a.Part(row, tile.rows, 0, a.cols());
    const Matrix part_b = b.Part(0, b.rows(), col, tile.cols);
    Matrix product = tile;
    if (rounds)
      product = DenseMatrix(reinterpret_cast<std::byte*>(tile_buffers_[thread].data()), DType::kF32,
                            tile.rows, tile.cols);
    multipliers_[thread].Run({part_a, transpose_a}, {part_b, transpose_b}, product, output);
    if (rounds) rows_.cast(product, tile);
  });
  return OkStatus();
}

}  // namespace strata::engine
