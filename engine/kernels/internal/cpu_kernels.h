// The implementation behind cpu_kernels.h: how each operation is cut into tiles. What a tile does
// is in row_kernels.h and product.h.
#pragma once

#include <array>
#include <vector>

#include "aio/base/units.h"
#include "engine/kernels/internal/product.h"
#include "engine/kernels/internal/row_kernels.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_pool.h"

namespace strata::engine {

// The part of `matrix` that starts at (row, col), at most rows x cols.
Matrix Part(const Matrix& matrix, size_t row, size_t rows, size_t col, size_t cols);
// Its rows from `row` on, at most `rows`.
inline Matrix Rows(const Matrix& matrix, size_t row, size_t rows) {
  return Part(matrix, row, rows, 0, matrix.cols);
}

class CpuKernels final : public Kernels {
 public:
  CpuKernels(ThreadPool pool, const RowKernels& rows);

  // Gradients of weights are read and written behind the products of 2048 rows; logits stay in the
  // cache.
  RowsAtOnce rows_at_once() const override { return {2048, 12_MiB, 128}; }
  size_t MatMulWorkspaceBytes() const override { return 0; }
  Status MatMul(const Stream& stream, const Matrix& a, Transpose transpose_a, const Matrix& b,
                Transpose transpose_b, const Matrix& out, Output output,
                std::span<std::byte> workspace) override;

  Status RmsNormForward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                        const Matrix& y) override;
  Status RmsNormBackward(const Stream& stream, const Matrix& x, const std::byte* weight, float eps,
                         const Matrix& dy, const Matrix& dx, float* weight_gradient,
                         std::span<std::byte> workspace) override;
  size_t TwoPassWorkspaceBytes() const override { return 0; }
  Status Rope(const Stream& stream, const Matrix& x, size_t seq_len, size_t head_dim,
              std::span<const float> inverse_frequency, float attention_factor,
              int direction) override;

  size_t AttentionWorkspaceBytes(const AttentionShape& shape, DType dtype) const override;
  Status AttentionForward(const Stream& stream, const AttentionShape& shape, const Matrix& q,
                          const Matrix& k, const Matrix& v, const Matrix& out, float* log_sum_exp,
                          std::span<std::byte> workspace) override;
  Status AttentionBackward(const Stream& stream, const AttentionShape& shape, const Matrix& q,
                           const Matrix& k, const Matrix& v, const Matrix& out,
                           const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                           const Matrix& dk, const Matrix& dv,
                           std::span<std::byte> workspace) override;

  Status SwiGluForward(const Stream& stream, const Matrix& gate, const Matrix& up,
                       const Matrix& out) override;
  Status SwiGluBackward(const Stream& stream, const Matrix& gate, const Matrix& up,
                        const Matrix& dout, const Matrix& dgate, const Matrix& dup) override;
  Status SoftmaxStatistics(const Stream& stream, const Matrix& logits,
                           std::span<const int32_t> targets, size_t first_column, Output output,
                           std::span<SoftmaxRow> rows) override;
  Status CrossEntropy(const Stream& stream, const Matrix& logits, std::span<const int32_t> targets,
                      size_t first_column, std::span<const SoftmaxRow> rows, float gradient_scale,
                      const Matrix& dlogits) override;
  Status CrossEntropyLoss(const Stream& stream, std::span<const int32_t> targets,
                          std::span<const SoftmaxRow> rows, double* loss_sum) override;
  Status EmbeddingForward(const Stream& stream, const Matrix& table, size_t first_id,
                          std::span<const int32_t> ids, const Matrix& out) override;
  Status EmbeddingBackward(const Stream& stream, std::span<const int32_t> ids, const Matrix& dout,
                           size_t first_id, const Matrix& table_gradient) override;
  Status Add(const Stream& stream, const Matrix& a, const Matrix& b, const Matrix& out) override;
  Status Cast(const Stream& stream, const Matrix& from, const Matrix& to) override;
  Status RoundAndSumSquares(const Stream& stream, std::span<const float> from, std::byte* to,
                            DType dtype, double* squares, std::span<std::byte> workspace) override;
  Status SumOfSquares(const Stream& stream, std::span<const std::byte> numbers, DType dtype,
                      double* squares, std::span<std::byte> workspace) override;
  Status Zero(const Stream& stream, std::span<std::byte> bytes) override;

 private:
  // Where something per row is kept between two passes: rows are handled this many at a time.
  static constexpr size_t kRowsAtOnce = 1024;
  // Enough work to pay for handing a tile to a thread, little enough to stay in its cache.
  static constexpr size_t kTileElements = 16384;

  // tile(first_row, num_rows) over all rows, each tile holding about kTileElements.
  template <typename Tile>
  void ForRows(size_t rows, size_t cols, Tile tile) {
    const Cuts cuts{rows, std::max<size_t>(1, kTileElements / std::max<size_t>(cols, 1))};
    pool_.ParallelFor(cuts.count(), [&](size_t i) { tile(cuts.begin(i), cuts.size(i)); });
  }
  // tile(first_row, num_rows, first_col, num_cols): long rows are cut, too.
  template <typename Tile>
  void ForParts(size_t rows, size_t cols, Tile tile) {
    const Cuts col_cuts{cols, kTileElements};
    const Cuts row_cuts{rows, std::max<size_t>(1, kTileElements / std::max<size_t>(cols, 1))};
    pool_.ParallelFor(row_cuts.count() * col_cuts.count(), [&](size_t i) {
      const size_t row = i / col_cuts.count(), col = i % col_cuts.count();
      tile(row_cuts.begin(row), row_cuts.size(row), col_cuts.begin(col), col_cuts.size(col));
    });
  }
  void ReserveTileBuffers(size_t num_floats) {
    for (std::vector<float>& buffer : tile_buffers_) {
      if (buffer.size() < num_floats) buffer.resize(num_floats);
    }
  }

  ThreadPool pool_;
  const RowKernels& rows_;
  std::vector<Multiplier> multipliers_;           // per thread
  std::vector<std::vector<float>> tile_buffers_;  // per thread: a product to be rounded
  std::array<float, kRowsAtOnce> row_floats_;
};

}  // namespace strata::engine
