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

// Parts that one op takes of a sublayer that is cut into parts (units.h).
struct Tile {
  uint32_t first_part = 0;
  uint32_t num_parts = 1;
  uint32_t end_part() const { return first_part + num_parts; }
};

// A unit's flattened weights (UnitSpec) and its fp32 gradient; forward: without.
struct UnitMemory {
  std::span<std::byte> weights = {};
  std::span<std::byte> gradient = {};
};

// What an op works on. The norm's unit begins with the sublayer's norm and may be one of the
// parts; its gradient is of the tile with part 0. Embeddings have no norm.
struct TileOperands {
  UnitMemory norm = {};
  uint32_t first_part = 0;
  std::span<const UnitMemory> parts = {};

  Tile tile() const { return {first_part, static_cast<uint32_t>(parts.size())}; }
};

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
  // part_elements: how finely large sublayers are cut (units.h).
  LlamaModel(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels,
             uint64_t part_elements = kUncut);
  ~LlamaModel();
  LlamaModel(LlamaModel&&) noexcept;
  LlamaModel& operator=(LlamaModel&&) noexcept;

  using Bytes = std::span<std::byte>;
  using Stream = tiering::StreamContext;

  // Bytes of the residual stream at a unit boundary: num_tokens x hidden_size of dtype.
  uint64_t ActivationBytes() const;
  uint32_t NumParts(UnitKind kind) const;
  Tile WholeTile(UnitKind kind) const { return {0, NumParts(kind)}; }

  // What forward keeps for backward: 0 for units that compute nothing again.
  uint64_t KeptBytes(UnitKind kind, const Tile& tile) const;
  uint64_t KeptBytes(UnitKind kind) const { return KeptBytes(kind, WholeTile(kind)); }
  // Of a head's tile, kForward is HeadStatistics() and kBackward HeadGradients(); of the whole head
  // HeadLoss() and Head().
  uint64_t WorkspaceBytes(UnitKind kind, Pass pass, Intermediates intermediates,
                          const Tile& tile) const;
  uint64_t WorkspaceBytes(UnitKind kind, Pass pass,
                          Intermediates intermediates = Intermediates::kRecompute) const {
    return WorkspaceBytes(kind, pass, intermediates, WholeTile(kind));
  }
  // Multiply-adds counted as two, recomputation included.
  double Flops(UnitKind kind, Pass pass, Intermediates intermediates, const Tile& tile) const;
  double Flops(UnitKind kind, Pass pass,
               Intermediates intermediates = Intermediates::kRecompute) const {
    return Flops(kind, pass, intermediates, WholeTile(kind));
  }
  // Of the sum of squares of a gradient: Kernels::TwoPassWorkspaceBytes().
  uint64_t SquaresWorkspaceBytes() const { return kernels_->TwoPassWorkspaceBytes(); }
  // A sum over tiles: fp32 [num_tokens, hidden_size]. What is known of each row's softmax.
  uint64_t SumBytes() const;
  uint64_t SoftmaxBytes() const;

  // `weights` is the flattened unit (UnitSpec), `gradient` its fp32 counterpart. `ids` are
  // num_tokens int32. A tile of the embedding writes the rows of y whose ids are in its parts, and
  // adds to their gradients; backward needs no weights.
  Status EmbeddingForward(const Stream& stream, const TileOperands& tile, Bytes ids, Bytes y) const;
  Status EmbeddingBackward(const Stream& stream, const TileOperands& tile, Bytes ids,
                           Bytes dy) const;

  // y = x + f(norm(x)). y is another block than x. `kept`: KeptBytes() of the unit, written by
  // forward and used up by backward, or empty for both.
  Status AttentionForward(const Stream& stream, Bytes weights, Bytes x, Bytes y, Bytes kept,
                          Bytes workspace) const;
  // Tiles of a cut mlp come in ascending order, add up in `sum` (SumBytes(); of the whole: empty),
  // and the one with the last part writes y, which is empty for the others.
  Status MlpForward(const Stream& stream, const TileOperands& tile, Bytes x, Bytes y, Bytes sum,
                    Bytes kept, Bytes workspace) const;
  // d: on entry d(loss)/dy, on return d(loss)/dx, in place. Tiles of a cut mlp come in descending
  // order; the one with part 0 changes d.
  Status AttentionBackward(const Stream& stream, Bytes weights, Bytes x, Bytes d, Bytes kept,
                           Bytes gradient, Bytes workspace) const;
  Status MlpBackward(const Stream& stream, const TileOperands& tile, Bytes x, Bytes d, Bytes sum,
                     Bytes kept, Bytes workspace) const;

  // Final norm, logits in chunks of rows, loss and everything's gradient in one pass: the only
  // place that sees logits, and never all at once. The parts are those of lm_head; tied, the
  // embedding's units. *loss_sum (fp64, device memory) += the sum of token losses; gradients and d
  // are those of loss_sum * gradient_scale. targets: num_tokens int32, negative ones not counted.
  Status Head(const Stream& stream, const TileOperands& head, Bytes x, Bytes targets,
              float gradient_scale, Bytes d, Bytes loss_sum, Bytes workspace) const;
  // The head's loss alone, for evaluation.
  Status HeadLoss(const Stream& stream, const TileOperands& head, Bytes x, Bytes targets,
                  Bytes loss_sum, Bytes workspace) const;
  // The same as Head(), tile by tile in two passes: in ascending order `softmax` (SoftmaxBytes())
  // is gathered; then in descending order the gradients, with dh summed in `sum`. The tile with
  // part 0 ends the second pass with d and loss_sum, which are empty for the others.
  Status HeadStatistics(const Stream& stream, const TileOperands& tile, Bytes x, Bytes targets,
                        Bytes softmax, Bytes workspace) const;
  Status HeadGradients(const Stream& stream, const TileOperands& tile, Bytes x, Bytes targets,
                       float gradient_scale, Bytes softmax, Bytes sum, Bytes d, Bytes loss_sum,
                       Bytes workspace) const;

  const LlamaConfig& config() const { return config_; }
  const BatchShape& batch() const { return batch_; }
  DType dtype() const { return dtype_; }

 private:
  Matrix Activation(Bytes bytes) const;
  Matrix ActivationOrNone(Bytes bytes) const;
  Matrix Sum(Bytes bytes) const;
  std::span<SoftmaxRow> Softmax(Bytes bytes) const;

  LlamaConfig config_;
  Cut vocabulary_;  // how the embedding is cut
  DType dtype_;
  BatchShape batch_;
  Kernels* kernels_;
  std::unique_ptr<const AttentionUnit> attention_;
  std::unique_ptr<const MlpUnit> mlp_;
  std::unique_ptr<const HeadUnit> head_;
};

}  // namespace strata::engine
