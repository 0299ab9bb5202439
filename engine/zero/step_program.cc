#include "engine/zero/step_program.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "engine/zero/internal/gradient_ops.h"
#include "engine/zero/internal/program_writer.h"
#include "engine/zero/internal/tile_ops.h"
#include "engine/zero/internal/update_ops.h"

namespace strata::engine {
namespace {

using prefetch::Access;
using prefetch::AccessMode;
using prefetch::BlockId;
using prefetch::Lane;
using prefetch::TraceOp;

constexpr AccessMode kR = AccessMode::kRead;
constexpr AccessMode kW = AccessMode::kWrite;
constexpr AccessMode kRw = AccessMode::kReadWrite;

class ProgramBuilder {
 public:
  ProgramBuilder(const StateLayout& layout, const LlamaModel& model,
                 const StepProgramOptions& options)
      : layout_(layout), model_(model), options_(options), writer_(layout, model, options) {}

  StepProgram Build() && {
    if (options_.kind == StepKind::kFlush) {
      updates_.UpdateAll();
      return std::move(writer_).Take();
    }
    const uint32_t all = options_.num_micro_batches;
    const uint32_t together = options_.schedule == Schedule::kVertical ? all : 1;
    for (uint32_t first = 0; first < all; first += together) Walk({first, first + together});
    if (options_.kind != StepKind::kInBackward) gradients_.Clip();
    if (options_.kind == StepKind::kAfterNorm) updates_.UpdateAll();
    Report();
    return std::move(writer_).Take();
  }

 private:
  // The micro-batches that walk through the model together.
  struct Micros {
    uint32_t first = 0;
    uint32_t end = 0;
  };
  bool AreLast(Micros micros) const { return micros.end == options_.num_micro_batches; }

  const std::vector<Sublayer>& sublayers() const { return layout_.sublayers; }
  uint32_t head() const { return static_cast<uint32_t>(sublayers().size()) - 1; }
  bool tied() const { return model_.config().tie_word_embeddings; }

  void Walk(Micros micros) {
    for (uint32_t micro = micros.first; micro < micros.end; ++micro) LoadBatch(micro);
    Forward(micros);
    Head(micros);
    Backward(micros);
  }

  void LoadBatch(uint32_t micro) {
    BlockId tokens = blocks_.Tokens(micro);
    writer_.Add({.name = fmt::format("load batch micro={}", micro),
                 .kind = "batch",
                 .lane = Lane::kCpu,
                 .accesses = {{tokens, kW}},
                 .work = static_cast<double>(blocks_.SizeOf(tokens))},
                {.role = OpRole::kLoadBatch, .micro = micro});
  }

  void Forward(Micros micros) {
    for (uint32_t sublayer = 0; sublayer < head(); ++sublayer) {
      for (Tiled& tiled : tiles_.Of(sublayer, Pass::kForward)) {
        UpdateIfPending(tiled, micros);
        tiles_.Fetch("forward", tiled);
        for (uint32_t micro = micros.first; micro < micros.end; ++micro) ForwardTile(tiled, micro);
      }
    }
  }

  // The gradients that the step before left are applied when a tile is first needed.
  void UpdateIfPending(const Tiled& tiled, Micros micros) {
    if (options_.kind != StepKind::kDeferred || micros.first > 0) return;
    const Sublayer& sublayer = sublayers()[tiled.sublayer];
    if (sublayer.has_norm_apart() && tiled.is_first) updates_.Update(*sublayer.norm_unit);
    if (tiled.sublayer == head() && tied()) return;  // the embedding's, long updated
    for (uint32_t part = tiled.tile.first_part; part < tiled.tile.end_part(); ++part)
      updates_.Update(sublayer.first_part + part);
  }

  void ForwardTile(const Tiled& tiled, uint32_t micro) {
    const uint32_t sublayer = tiled.sublayer;
    const UnitKind kind = sublayers()[sublayer].kind;
    const BlockId y = blocks_.Input(sublayer + 1, micro);
    std::vector<Access> accesses = tiled.weights;
    if (kind == UnitKind::kEmbedding) {
      accesses.push_back({blocks_.Tokens(micro), kR});
      accesses.push_back(TileOps::Through(tiled, y));
      return tiles_.Add("forward", Pass::kForward, tiled, micro, std::move(accesses),
                        {.role = OpRole::kEmbeddingForward});
    }
    accesses.push_back({blocks_.Input(sublayer, micro), kR});
    if (tiled.is_last) accesses.push_back({y, kW});
    if (!tiled.is_whole)
      accesses.push_back(TileOps::Through(tiled, blocks_.Sum(sublayer, "forward", micro)));
    if (tiles_.Keeps(sublayer)) accesses.push_back({blocks_.Kept(sublayer, tiled.tile, micro), kW});
    const bool is_mlp = kind == UnitKind::kMlp;
    tiles_.Add("forward", Pass::kForward, tiled, micro, std::move(accesses),
               {.role = is_mlp ? OpRole::kMlpForward : OpRole::kAttentionForward});
  }

  void AppendHeadInputs(uint32_t micro, std::vector<Access>& accesses) {
    accesses.push_back({blocks_.Input(head(), micro), kR});
    accesses.push_back({blocks_.Tokens(micro), kR});
  }

  void Head(Micros micros) {
    if (sublayers()[head()].num_parts > options_.parts_per_op) HeadStatistics(micros);
    for (Tiled& tiled : tiles_.Of(head(), Pass::kBackward)) {
      if (tiled.is_whole) UpdateIfPending(tiled, micros);
      tiles_.Fetch("head", tiled);
      for (uint32_t micro = micros.first; micro < micros.end; ++micro) HeadTile(tiled, micro);
      if (AreLast(micros)) FinishTile(tiled);
    }
  }

  void HeadStatistics(Micros micros) {
    for (Tiled& tiled : tiles_.Of(head(), Pass::kForward)) {
      UpdateIfPending(tiled, micros);
      tiles_.Fetch("head statistics", tiled);
      for (uint32_t micro = micros.first; micro < micros.end; ++micro) {
        std::vector<Access> accesses = tiled.weights;
        AppendHeadInputs(micro, accesses);
        accesses.push_back(TileOps::Through(tiled, blocks_.Softmax(micro)));
        tiles_.Add("softmax statistics", Pass::kForward, tiled, micro, std::move(accesses),
                   {.role = OpRole::kHeadStatistics});
      }
    }
  }

  void HeadTile(const Tiled& tiled, uint32_t micro) {
    std::vector<Access> accesses = tiled.weights;
    OpPayload payload{.role = tiled.is_whole ? OpRole::kHead : OpRole::kHeadGradients};
    payload.is_first = tiles_.AppendGradients(tiled, accesses);
    AppendHeadInputs(micro, accesses);
    if (!tiled.is_whole) {
      accesses.push_back({blocks_.Softmax(micro), kR});
      accesses.push_back(TileOps::Through(tiled, blocks_.Sum(head(), "backward", micro)));
    }
    if (tiled.is_last) {
      accesses.push_back({blocks_.Upstream(micro), kW});
      accesses.push_back(writer_.Accumulate(blocks_.Loss()));
    }
    tiles_.Add("loss and backward", Pass::kBackward, tiled, micro, std::move(accesses), payload);
  }

  void Backward(Micros micros) {
    for (uint32_t sublayer = head() - 1; sublayer > 0; --sublayer) {
      for (Tiled& tiled : tiles_.Of(sublayer, Pass::kBackward)) {
        tiles_.Fetch("backward", tiled);
        for (uint32_t micro = micros.first; micro < micros.end; ++micro) BackwardTile(tiled, micro);
        if (AreLast(micros)) FinishTile(tiled);
      }
    }
    // Tied, one gradient is summed over what the head adds, then over what the embedding adds, in
    // this order in every schedule: so the embedding's wait for the last head.
    if (tied() && !AreLast(micros)) return;
    if (tied()) micros.first = 0;
    EmbeddingBackward(micros);
  }

  void BackwardTile(const Tiled& tiled, uint32_t micro) {
    const uint32_t sublayer = tiled.sublayer;
    const bool is_mlp = sublayers()[sublayer].kind == UnitKind::kMlp;
    std::vector<Access> accesses = tiled.weights;
    accesses.push_back({blocks_.Input(sublayer, micro), kR});
    accesses.push_back({blocks_.Upstream(micro), tiled.is_last ? kRw : kR});
    if (!tiled.is_whole)
      accesses.push_back(TileOps::Through(tiled, blocks_.Sum(sublayer, "backward", micro)));
    if (tiles_.Keeps(sublayer))
      accesses.push_back({blocks_.Kept(sublayer, tiled.tile, micro), kRw});
    OpPayload payload{.role = is_mlp ? OpRole::kMlpBackward : OpRole::kAttentionBackward};
    payload.is_first = tiles_.AppendGradients(tiled, accesses);
    tiles_.Add("backward", Pass::kBackward, tiled, micro, std::move(accesses), payload);
  }

  // Needs no weights.
  void EmbeddingBackward(Micros micros) {
    for (const Tiled& tiled : tiles_.Of(0, Pass::kBackward)) {
      for (uint32_t micro = micros.first; micro < micros.end; ++micro) {
        std::vector<Access> accesses = {{blocks_.Tokens(micro), kR}, {blocks_.Upstream(micro), kR}};
        OpPayload payload{.role = OpRole::kEmbeddingBackward};
        payload.is_first = tiles_.AppendGradients(tiled, accesses);
        tiles_.Add("backward", Pass::kBackward, tiled, micro, std::move(accesses), payload);
      }
      if (AreLast(micros)) FinishTile(tiled);
    }
  }

  // The gradients that nothing is added to any more. Those of a tied head's parts are not.
  void FinishTile(const Tiled& tiled) {
    const bool are_embeddings = tiled.sublayer == head() && tied();
    for (uint32_t unit : tiles_.GradientUnits(tiled)) {
      if (are_embeddings && unit != *sublayers()[head()].norm_unit) continue;
      gradients_.Finish(unit);
      if (writer_.updates_in_backward()) updates_.Update(unit);
    }
  }

  void Report() {
    writer_.Add({.name = "report",
                 .kind = "report",
                 .lane = Lane::kCpu,
                 .accesses = {{blocks_.Loss(), kR}, {blocks_.Norms(), kR}},
                 .work = static_cast<double>((writer_.num_units() + 1) * sizeof(double))},
                {.role = OpRole::kReport});
  }

  const StateLayout& layout_;
  const LlamaModel& model_;
  const StepProgramOptions options_;
  ProgramWriter writer_;
  ProgramBlocks& blocks_ = writer_.blocks();
  GradientOps gradients_{writer_};
  UpdateOps updates_{writer_};
  TileOps tiles_{writer_};
};

}  // namespace

std::string_view StepKindName(StepKind kind) {
  constexpr std::array<std::string_view, 6> kNames = {"in backward", "after norm", "speculative",
                                                      "deferred",    "keep",       "flush"};
  return kNames[static_cast<size_t>(kind)];
}

StepProgram MakeStepProgram(const StateLayout& layout, const LlamaModel& model,
                            const StepProgramOptions& options) {
  return ProgramBuilder(layout, model, options).Build();
}

double BytesSent(const StepProgram& program, uint32_t world_size) {
  double work = 0;
  for (const TraceOp& op : program.trace.ops)
    if (op.lane == Lane::kComm) work += op.work;
  return work * (world_size - 1) / world_size;
}

}  // namespace strata::engine
