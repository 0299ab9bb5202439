// Forward and backward of each unit of a Llama, by hand, on the kernel interface.
//
// Of each unit its input is saved, the residual stream at its boundary. What else backward needs,
// the intermediates, is either computed again from that or kept by forward, with the same bits:
// recomputing costs a third more arithmetic (Chen et al. 2016), keeping costs KeptBytes().
// Activations and weights have one dtype (bf16 or fp32); weight gradients are fp32 and added to, so
// that micro-batches accumulate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "aio/base/status.h"
#include "engine/kernels/kernels.h"
#include "engine/model/units.h"

namespace strata::engine {

class AttentionUnit;
class MlpUnit;
class HeadUnit;

enum class Pass : uint8_t { kForward, kBackward };
enum class Intermediates : uint8_t { kRecompute, kKeep };

struct BatchShape {
  uint64_t micro_batch = 1;  // sequences
  uint64_t seq_len = 0;      // positions that are predicted; row b * seq_len + t is token t of b
  uint64_t num_tokens() const { return micro_batch * seq_len; }
};

// Thread-safe: const throughout. `kernels` outlives it. All pointers are device memory,
// aligned to 256 bytes.
class LlamaModel {
 public:
  LlamaModel(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels);
  ~LlamaModel();
  LlamaModel(LlamaModel&&) noexcept;
  LlamaModel& operator=(LlamaModel&&) noexcept;

  using Bytes = std::span<std::byte>;
  using Stream = tiering::StreamContext;

  // Bytes of the residual stream at a unit boundary: num_tokens x hidden_size of dtype.
  uint64_t ActivationBytes() const;
  // What forward keeps for backward: 0 for units that compute nothing again.
  uint64_t KeptBytes(UnitKind kind) const;
  uint64_t WorkspaceBytes(UnitKind kind, Pass pass,
                          Intermediates intermediates = Intermediates::kRecompute) const;
  // Multiply-adds counted as two, recomputation included.
  double Flops(UnitKind kind, Pass pass,
               Intermediates intermediates = Intermediates::kRecompute) const;

  // `weights` is the flattened unit (UnitSpec), `gradient` its fp32 counterpart. `ids` are
  // num_tokens int32.
  Status EmbeddingForward(const Stream& stream, Bytes weights, Bytes ids, Bytes y) const;
  Status EmbeddingBackward(const Stream& stream, Bytes ids, Bytes dy, Bytes gradient) const;

  // y = x + f(norm(x)). y is another block than x. `kept`: KeptBytes() of the unit, written by
  // forward and used up by backward, or empty for both.
  Status AttentionForward(const Stream& stream, Bytes weights, Bytes x, Bytes y, Bytes kept,
                          Bytes workspace) const;
  Status MlpForward(const Stream& stream, Bytes weights, Bytes x, Bytes y, Bytes kept,
                    Bytes workspace) const;
  // d: on entry d(loss)/dy, on return d(loss)/dx, in place.
  Status AttentionBackward(const Stream& stream, Bytes weights, Bytes x, Bytes d, Bytes kept,
                           Bytes gradient, Bytes workspace) const;
  Status MlpBackward(const Stream& stream, Bytes weights, Bytes x, Bytes d, Bytes kept,
                     Bytes gradient, Bytes workspace) const;

  // Final norm, logits in chunks of rows, loss and everything's gradient in one pass: the only
  // place that sees logits, and never all at once. head_weights holds the final norm (and lm_head
  // when untied); lm_head is the matrix [vocab, hidden]: of the head unit, or the embedding unit's
  // when tied, and lm_head_gradient its fp32 gradient within the owning unit.
  // *loss_sum (fp64, device memory) += the sum of token losses; gradients and d are those of
  // loss_sum * gradient_scale. targets: num_tokens int32, negative ones not counted.
  struct HeadOperands {
    Bytes head_weights;
    Bytes head_gradient;
    Bytes embedding_weights;   // tied only, else empty
    Bytes embedding_gradient;  // tied only, else empty
  };
  Status Head(const Stream& stream, const HeadOperands& unit, Bytes x, Bytes targets,
              float gradient_scale, Bytes d, Bytes loss_sum, Bytes workspace) const;
  // The head's loss alone, for evaluation.
  Status HeadLoss(const Stream& stream, const HeadOperands& unit, Bytes x, Bytes targets,
                  Bytes loss_sum, Bytes workspace) const;

  const LlamaConfig& config() const { return config_; }
  const BatchShape& batch() const { return batch_; }
  DType dtype() const { return dtype_; }

 private:
  Matrix Activation(Bytes bytes) const;

  LlamaConfig config_;
  DType dtype_;
  BatchShape batch_;
  Kernels* kernels_;
  std::unique_ptr<const AttentionUnit> attention_;
  std::unique_ptr<const MlpUnit> mlp_;
  std::unique_ptr<const HeadUnit> head_;
};

}  // namespace strata::engine
