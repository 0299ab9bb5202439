// x + o_proj(attention(rope(q), rope(k), v)) of norm(x), and back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/internal/parameters.h"
#include "engine/model/internal/workspace_layout.h"
#include "engine/model/llama.h"

namespace strata::engine {

class AttentionUnit {
 public:
  AttentionUnit(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels);

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
    Matrix h, q, k, v, out;
    std::span<std::byte> log_sum_exp, kernel_workspace, product_workspace;
    Matrix dout, dq, dk, dv, dh;  // backward, as what follows
    std::span<std::byte> two_pass_workspace;
  };
  // `kept`: where the intermediates are; null: in the workspace.
  Buffers LayOut(WorkspaceLayout& layout, WorkspaceLayout* kept, Pass pass) const;
  void LayOutIntermediates(WorkspaceLayout& layout, Buffers& buffers) const;

  // From x to the attention's output, before o_proj: the intermediates.
  Status Attend(const Stream& stream, const Parameters& parameters, const Matrix& x,
                const Buffers& buffers) const;
  // d(loss)/d(projected), from d(loss)/dy, through o_proj, attention and rope.
  Status AttendBackward(const Stream& stream, const Parameters& parameters, const Matrix& dy,
                        const Buffers& buffers) const;
  Status Rope(const Stream& stream, const Matrix& x, int direction) const;

  DType dtype_;
  Kernels* kernels_;
  UnitSpec spec_;  // of any layer: names aside, all are alike
  AttentionShape shape_;
  uint64_t num_tokens_, hidden_size_, query_size_, key_value_size_;
  float eps_;
  std::vector<float> inverse_frequency_;
};

}  // namespace strata::engine
