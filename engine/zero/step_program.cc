#include "engine/zero/step_program.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "engine/zero/internal/gradient_ops.h"
#include "engine/zero/internal/program_writer.h"
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

  uint32_t num_units() const { return writer_.num_units(); }
  uint32_t head_unit() const { return num_units() - 1; }
  bool tied() const { return model_.config().tie_word_embeddings; }
  const std::string& UnitName(uint32_t unit) const { return writer_.UnitName(unit); }
  UnitKind KindOf(uint32_t unit) const { return layout_.unit_specs[unit].kind; }

  // Of the attention and mlp units, which lie between embedding and head, the last ones.
  bool Keeps(uint32_t unit) const {
    return unit > 0 && unit < head_unit() && unit + options_.num_keeping_units >= head_unit();
  }

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

  // The block that holds the unit's whole weights for one pass: its shard when there is one rank.
  BlockId FetchWeights(uint32_t unit, std::string_view pass) {
    if (!layout_.options.shards_weights()) return blocks_.Weights(unit);
    BlockId whole = blocks_.GatheredWeights(unit, pass);
    writer_.Add({.name = fmt::format("gather {} {}", UnitName(unit), pass),
                 .kind = "gather",
                 .lane = Lane::kComm,
                 .accesses = {{blocks_.Weights(unit), kR}, {whole, kW}},
                 .work = static_cast<double>(blocks_.SizeOf(whole))},
                {.role = OpRole::kGatherWeights, .unit = unit});
    return whole;
  }

  void Forward(Micros micros) {
    for (uint32_t unit = 0; unit < head_unit(); ++unit) {
      UpdateIfPending(unit, micros);
      BlockId weights = FetchWeights(unit, "forward");
      for (uint32_t micro = micros.first; micro < micros.end; ++micro) {
        BlockId in = unit == 0 ? blocks_.Tokens(micro) : blocks_.Input(unit, micro);
        std::vector<Access> accesses = {
            {weights, kR}, {in, kR}, {blocks_.Input(unit + 1, micro), kW}};
        if (Keeps(unit)) accesses.push_back({blocks_.Kept(unit, micro), kW});
        ForwardOp(unit, micro, std::move(accesses));
      }
    }
  }

  // The gradients that the step before left are applied when the unit is first needed.
  void UpdateIfPending(uint32_t unit, Micros micros) {
    if (options_.kind == StepKind::kDeferred && micros.first == 0) updates_.Update(unit);
  }

  void ForwardOp(uint32_t unit, uint32_t micro, std::vector<Access> accesses) {
    UnitKind kind = KindOf(unit);
    OpRole role = kind == UnitKind::kEmbedding   ? OpRole::kEmbeddingForward
                  : kind == UnitKind::kAttention ? OpRole::kAttentionForward
                                                 : OpRole::kMlpForward;
    AddUnitOp("forward", Pass::kForward, unit, micro, std::move(accesses), {.role = role});
  }

  void AddUnitOp(std::string_view verb, Pass pass, uint32_t unit, uint32_t micro,
                 std::vector<Access> accesses, OpPayload payload) {
    UnitKind kind = KindOf(unit);
    payload.unit = unit;
    payload.micro = micro;
    payload.keeps_intermediates = Keeps(unit);
    Intermediates intermediates = Keeps(unit) ? Intermediates::kKeep : Intermediates::kRecompute;
    writer_.Add(
        {.name = fmt::format("{} {} micro={}", verb, UnitName(unit), micro),
         .kind = KindName(kind, pass),
         .lane = Lane::kCompute,
         .accesses = std::move(accesses),
         .workspace_bytes = model_.WorkspaceBytes(kind, pass, intermediates),
         .work = kind == UnitKind::kEmbedding ? static_cast<double>(model_.ActivationBytes())
                                              : model_.Flops(kind, pass, intermediates)},
        payload);
  }

  static std::string KindName(UnitKind kind, Pass pass) {
    std::string_view unit = kind == UnitKind::kEmbedding   ? "embedding"
                            : kind == UnitKind::kAttention ? "attention"
                            : kind == UnitKind::kMlp       ? "mlp"
                                                           : "head";
    if (kind == UnitKind::kHead) return std::string(unit);
    return fmt::format("{}.{}", unit, pass == Pass::kForward ? "forward" : "backward");
  }

  void Head(Micros micros) {
    uint32_t unit = head_unit();
    UpdateIfPending(unit, micros);
    BlockId weights = FetchWeights(unit, "head");
    BlockId embedding = tied() ? FetchWeights(0, "head") : BlockId{};
    for (uint32_t micro = micros.first; micro < micros.end; ++micro) {
      OpPayload payload{
          .role = OpRole::kHead, .is_first = micro == 0, .is_first_embedding_gradient = micro == 0};
      std::vector<Access> accesses = {{weights, kR},
                                      writer_.Accumulate(blocks_.WholeGradient(unit))};
      if (tied()) {
        accesses.push_back({embedding, kR});
        accesses.push_back(writer_.Accumulate(blocks_.WholeGradient(0)));
      }
      accesses.push_back({blocks_.Input(unit, micro), kR});
      accesses.push_back({blocks_.Tokens(micro), kR});
      accesses.push_back({blocks_.Upstream(micro), kW});
      accesses.push_back(writer_.Accumulate(blocks_.Loss()));
      AddUnitOp("loss and backward", Pass::kBackward, unit, micro, std::move(accesses), payload);
    }
    if (AreLast(micros)) Finish(unit);
  }

  void Backward(Micros micros) {
    for (uint32_t unit = head_unit() - 1; unit > 0; --unit) {
      BlockId weights = FetchWeights(unit, "backward");
      for (uint32_t micro = micros.first; micro < micros.end; ++micro)
        LayerBackward(unit, weights, micro);
      if (AreLast(micros)) Finish(unit);
    }
    // Tied, one gradient is summed over what the head adds, then over what the embedding adds, in
    // this order in every schedule: so the embedding's wait for the last head.
    if (tied() && !AreLast(micros)) return;
    if (tied()) micros.first = 0;
    for (uint32_t micro = micros.first; micro < micros.end; ++micro) EmbeddingBackward(micro);
    if (AreLast(micros)) Finish(0);
  }

  void LayerBackward(uint32_t unit, BlockId weights, uint32_t micro) {
    OpRole role =
        KindOf(unit) == UnitKind::kMlp ? OpRole::kMlpBackward : OpRole::kAttentionBackward;
    std::vector<Access> accesses = {
        {weights, kR}, {blocks_.Input(unit, micro), kR}, {blocks_.Upstream(micro), kRw}};
    if (Keeps(unit)) accesses.push_back({blocks_.Kept(unit, micro), kRw});
    accesses.push_back(writer_.Accumulate(blocks_.WholeGradient(unit)));
    AddUnitOp("backward", Pass::kBackward, unit, micro, std::move(accesses),
              {.role = role, .is_first = micro == 0});
  }

  void EmbeddingBackward(uint32_t micro) {
    Access gradient = writer_.Accumulate(blocks_.WholeGradient(0));
    AddUnitOp("backward", Pass::kBackward, 0, micro,
              {{blocks_.Tokens(micro), kR}, {blocks_.Upstream(micro), kR}, gradient},
              {.role = OpRole::kEmbeddingBackward, .is_first = gradient.mode == kW});
  }

  void Finish(uint32_t unit) {
    gradients_.Finish(unit);
    if (writer_.updates_in_backward()) updates_.Update(unit);
  }

  void Report() {
    writer_.Add({.name = "report",
                 .kind = "report",
                 .lane = Lane::kCpu,
                 .accesses = {{blocks_.Loss(), kR}, {blocks_.Norms(), kR}},
                 .work = static_cast<double>((num_units() + 1) * sizeof(double))},
                {.role = OpRole::kReport});
  }

  const StateLayout& layout_;
  const LlamaModel& model_;
  const StepProgramOptions options_;
  ProgramWriter writer_;
  ProgramBlocks& blocks_ = writer_.blocks();
  GradientOps gradients_{writer_};
  UpdateOps updates_{writer_};
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

}  // namespace strata::engine
