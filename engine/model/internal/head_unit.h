// Final norm, logits and loss, chunk by chunk of rows, and the gradients of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/internal/parameters.h"
#include "engine/model/internal/workspace_layout.h"
#include "engine/model/llama.h"

namespace strata::engine {

// A row's loss and gradient need the softmax over its whole vocabulary. With the whole lm_head at
// hand, all logits of a chunk of rows are there at once, and one pass does everything. Tile by tile
// of the vocabulary there are two: statistics of the softmax, and the gradients from logits that
// are computed again. Both sum over parts in the same order: the softmax's from the first part to
// the last, dh's, in fp32, from the last to the first.
class HeadUnit {
 public:
  HeadUnit(const LlamaConfig& config, uint64_t part_elements, DType dtype, const BatchShape& batch,
           Kernels* kernels);

  using Bytes = std::span<std::byte>;
  using Stream = Kernels::Stream;
  using Targets = std::span<const int32_t>;
  using SoftmaxRows = std::span<SoftmaxRow>;

  uint32_t num_parts() const { return cut_.num_parts(); }
  // kForward: statistics, or of all parts the loss; kBackward: gradients, of all parts the loss,
  // too.
  uint64_t WorkspaceBytes(Pass pass, const Tile& tile) const;
  double Flops(Pass pass, const Tile& tile) const;

  // Of all parts.
  Status Loss(const Stream& stream, const TileOperands& head, const Matrix& x, Targets targets,
              double* loss_sum, Bytes workspace) const;
  Status LossAndGradients(const Stream& stream, const TileOperands& head, const Matrix& x,
                          Targets targets, float gradient_scale, const Matrix& d, double* loss_sum,
                          Bytes workspace) const;
  // Of some, in two passes.
  Status Statistics(const Stream& stream, const TileOperands& tile, const Matrix& x,
                    Targets targets, SoftmaxRows softmax, Bytes workspace) const;
  // sum: dh in fp32. d and loss_sum: of the tile with part 0, the last of the pass.
  Status Gradients(const Stream& stream, const TileOperands& tile, const Matrix& x, Targets targets,
                   float gradient_scale, SoftmaxRows softmax, const Matrix& sum, const Matrix& d,
                   double* loss_sum, Bytes workspace) const;

 private:
  struct Buffers {
    Matrix h;
    Matrix dh;                   // h's memory, or fp32 where there are several parts
    std::vector<Matrix> logits;  // fp32, by part of the tile
    Matrix dlogits;              // of a part, in the model's format; without memory: the logits'
    std::span<std::byte> softmax, product_workspace;
    std::span<std::byte> two_pass_workspace;  // backward
  };
  struct Part {
    uint64_t first_column = 0;  // of the vocabulary
    Matrix weight;
    Matrix gradient;
  };
  // What one call does to some rows.
  struct RowsOf {
    Matrix x;
    Targets targets;
    SoftmaxRows softmax;
    Matrix sum;
    Matrix d;
  };
  bool IsWhole(const Tile& tile) const { return tile.num_parts == num_parts(); }
  Buffers LayOut(WorkspaceLayout& layout, const Tile& tile, Pass pass, uint64_t rows) const;
  Part PartOf(const TileOperands& tile, uint32_t index) const;
  Parameters NormOf(const TileOperands& tile) const;
  SoftmaxRows RowsIn(const Buffers& buffers, uint64_t rows) const;

  // Calls visit(rows) chunk by chunk.
  template <typename Visit>
  Status ForChunks(const RowsOf& all, Visit&& visit) const;
  Status Normalize(const Stream& stream, const TileOperands& tile, const Matrix& x,
                   const Buffers& buffers) const;
  // Logits of the tile's parts, and the softmax's statistics from them.
  Status StatisticsOfRows(const Stream& stream, const TileOperands& tile, const RowsOf& rows,
                          const Buffers& buffers) const;
  Status GradientOfPart(const Stream& stream, const Part& part, bool is_last, const RowsOf& rows,
                        float gradient_scale, const Matrix& logits, const Buffers& buffers) const;
  Status FinishRows(const Stream& stream, const TileOperands& tile, const RowsOf& rows,
                    double* loss_sum, const Buffers& buffers) const;

  DType dtype_;
  Kernels* kernels_;
  Cut cut_;
  std::vector<UnitSpec> specs_;       // the head's own
  std::vector<UnitSpec> part_specs_;  // of the units that the parts are in
  size_t part_tensor_;                // and where in these
  uint64_t num_tokens_, hidden_size_, chunk_rows_;
  float eps_;
};

}  // namespace strata::engine
