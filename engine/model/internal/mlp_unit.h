// x + down(silu(gate(norm(x))) * up(norm(x))), and back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/internal/parameters.h"
#include "engine/model/internal/unit_ops.h"
#include "engine/model/internal/workspace_layout.h"
#include "engine/model/llama.h"

namespace strata::engine {

// Tokens do not see each other here, so large batches go through in chunks of rows: the workspace
// stops growing with the batch. Where the intermediate columns are cut into parts, y is the sum of
// what the parts make of h, and dh of what they give back: in fp32, forward from the first part to
// the last, backward from the last to the first.
class MlpUnit {
 public:
  MlpUnit(const LlamaConfig& config, uint64_t part_elements, DType dtype, const BatchShape& batch,
          Kernels* kernels);

  using Bytes = std::span<std::byte>;
  using Stream = Kernels::Stream;

  uint32_t num_parts() const { return cut_.num_parts(); }
  uint64_t KeptBytes(const Tile& tile) const;
  uint64_t WorkspaceBytes(Pass pass, Intermediates intermediates, const Tile& tile) const;
  double Flops(Pass pass, Intermediates intermediates, const Tile& tile) const;
  // y: of a tile with the last part, else without memory. sum: fp32, like x; of a tile of some.
  Status Forward(const Stream& stream, const TileOperands& tile, const Matrix& x, const Matrix& y,
                 const Matrix& sum, Bytes kept, Bytes workspace) const;
  Status Backward(const Stream& stream, const TileOperands& tile, const Matrix& x, const Matrix& d,
                  const Matrix& sum, Bytes kept, Bytes workspace) const;

 private:
  // The intermediates of one part, of all rows or of some.
  struct Gates {
    Matrix gate, up;
  };
  struct Buffers {
    Matrix h, act;
    Matrix sum;                // of the parts, where there are several: y's or dh's
    Matrix dh;                 // backward: the sum, or a buffer
    std::vector<Gates> gates;  // by part of the tile
    Bytes product_workspace;
    Bytes two_pass_workspace;  // backward
  };
  // Some rows of an op's operands.
  struct RowsOf {
    Matrix x;
    Matrix out;  // y or d
    Matrix sum;
    std::vector<Gates> kept;
  };
  struct Tensors {
    Matrix gate, up, down;
    Matrix gate_gradient, up_gradient, down_gradient;
  };
  bool IsWhole(const Tile& tile) const { return tile.num_parts == num_parts(); }
  bool HasLast(const Tile& tile) const { return tile.end_part() == num_parts(); }
  std::vector<Gates> TakeGates(WorkspaceLayout& layout, const Tile& tile, uint64_t rows) const;
  // `operands` give what lies outside of the workspace. To count only, without memory.
  Buffers LayOut(WorkspaceLayout& layout, const Tile& tile, Pass pass,
                 const RowsOf& operands) const;
  Tensors TensorsOf(const TileOperands& tile, uint32_t index) const;
  Parameters NormOf(const TileOperands& tile) const;

  // Calls visit(rows of the operands) chunk by chunk.
  template <typename Visit>
  Status ForChunks(const RowsOf& operands, Visit&& visit) const;
  Status Project(const Products& products, const Tensors& tensors, const Matrix& h,
                 const Gates& gates) const;
  Status ForwardRows(const Stream& stream, const TileOperands& tile, const RowsOf& rows,
                     Bytes workspace) const;
  // What part `part` makes of h, added to the sum or, if there is one part, written to y.
  Status ForwardPart(const Stream& stream, const Tensors& tensors, uint32_t part,
                     const RowsOf& rows, const Buffers& buffers, const Gates& gates) const;
  Status BackwardRows(const Stream& stream, const TileOperands& tile, const RowsOf& rows,
                      Bytes workspace) const;
  Status BackwardPart(const Stream& stream, const Tensors& tensors, uint32_t part, const Matrix& dy,
                      const Buffers& buffers, const Gates& gates) const;
  // From d(loss)/dy to d(loss)/d(gate) and d(up), in the memory of gate and up.
  Status ActivateBackward(const Products& products, const Tensors& tensors, const Matrix& dy,
                          const Matrix& act, const Gates& gates) const;

  DType dtype_;
  Kernels* kernels_;
  Cut cut_;
  std::vector<UnitSpec> specs_;  // of any layer: names aside, all are alike
  uint64_t num_tokens_, hidden_size_, chunk_rows_;
  float eps_;
};

}  // namespace strata::engine
