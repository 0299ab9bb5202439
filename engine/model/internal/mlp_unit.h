// x + down(silu(gate(norm(x))) * up(norm(x))), and back.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "engine/model/internal/parameters.h"
#include "engine/model/internal/workspace_layout.h"
#include "engine/model/llama.h"

namespace strata::engine {

// Tokens do not see each other here, so large batches go through in chunks of rows: the workspace
// stops growing with the batch.
class MlpUnit {
 public:
  MlpUnit(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels);

  using Bytes = std::span<std::byte>;
  using Stream = Kernels::Stream;

  uint64_t KeptBytes() const;
  uint64_t WorkspaceBytes(Pass pass, Intermediates intermediates) const;
  double Flops(Pass pass, Intermediates intermediates) const;
  Status Forward(const Stream& stream, Bytes weights, const Matrix& x, const Matrix& y, Bytes kept,
                 Bytes workspace) const;
  Status Backward(const Stream& stream, Bytes weights, const Matrix& x, const Matrix& d, Bytes kept,
                  Bytes gradient, Bytes workspace) const;

 private:
  struct Buffers {
    Matrix gate, up, act;
    Matrix h, dh;  // backward
  };
  // The intermediates, of all rows or of some.
  struct Gates {
    Matrix gate, up;
  };
  std::optional<Gates> KeptGates(Bytes kept) const;
  // Without kept ones, gate and up are in the workspace.
  Buffers LayOut(WorkspaceLayout& layout, const std::optional<Gates>& kept, Pass pass,
                 uint64_t rows) const;
  // From x to gate and up, by way of h.
  Status Project(const Stream& stream, const Parameters& parameters, const Matrix& x,
                 const Buffers& buffers) const;
  // Calls visit(first row, rows, kept gates of these rows) chunk by chunk.
  template <typename Visit>
  Status ForChunks(const std::optional<Gates>& kept, Visit&& visit) const;
  // One chunk; `kept` are its own rows.
  Status ForwardRows(const Stream& stream, const Parameters& parameters, const Matrix& x,
                     const Matrix& y, const std::optional<Gates>& kept, Bytes workspace) const;
  Status BackwardRows(const Stream& stream, const Parameters& parameters, const Matrix& x,
                      const Matrix& d, const std::optional<Gates>& kept, Bytes workspace) const;
  // From d(loss)/dy to d(loss)/d(gate) and d(up), in the memory of gate and up.
  Status ActivateBackward(const Stream& stream, const Parameters& parameters, const Matrix& dy,
                          const Buffers& buffers) const;

  DType dtype_;
  Kernels* kernels_;
  UnitSpec spec_;
  uint64_t num_tokens_, hidden_size_, intermediate_size_, chunk_rows_;
  float eps_;
};

}  // namespace strata::engine
