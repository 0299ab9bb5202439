// Final norm, logits and loss, chunk by chunk of rows, with the gradients of all of them at once.
#pragma once

#include <cstdint>
#include <span>

#include "engine/model/internal/parameters.h"
#include "engine/model/internal/workspace_layout.h"
#include "engine/model/llama.h"

namespace strata::engine {

class HeadUnit {
 public:
  HeadUnit(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels);

  using Bytes = std::span<std::byte>;
  using Stream = Kernels::Stream;
  using Targets = std::span<const int32_t>;

  // kForward: the loss alone; kBackward: the loss and all gradients.
  uint64_t WorkspaceBytes(Pass pass) const;
  double Flops(Pass pass) const;
  Status Loss(const Stream& stream, const LlamaModel::HeadOperands& operands, const Matrix& x,
              Targets targets, double* loss_sum, Bytes workspace) const;
  Status LossAndGradients(const Stream& stream, const LlamaModel::HeadOperands& operands,
                          const Matrix& x, Targets targets, float gradient_scale, const Matrix& d,
                          double* loss_sum, Bytes workspace) const;

 private:
  struct Buffers {
    Matrix h;
    Matrix logits;   // fp32
    Matrix dlogits;  // in the model's format; if that is fp32, the logits' memory
  };
  struct Tensors {  // the norm's, and lm_head's wherever it lives
    Parameters norm;
    Matrix weight;
    Matrix gradient;
  };
  Buffers LayOut(WorkspaceLayout& layout, Pass pass, uint64_t rows) const;
  Tensors TensorsOf(const LlamaModel::HeadOperands& operands) const;
  Status Logits(const Stream& stream, const Tensors& tensors, const Matrix& x,
                const Buffers& buffers) const;
  Status GradientRows(const Stream& stream, const Tensors& tensors, const Matrix& x,
                      Targets targets, float gradient_scale, const Matrix& d, double* loss_sum,
                      Bytes workspace) const;

  DType dtype_;
  Kernels* kernels_;
  UnitSpec spec_;
  UnitSpec embedding_spec_;
  bool is_tied_;
  uint64_t num_tokens_, hidden_size_, vocab_size_, chunk_rows_;
  float eps_;
};

}  // namespace strata::engine
