#include "engine/zero/step_program.h"

#include <fmt/format.h>

#include <array>
#include <set>
#include <string>

#include "engine/zero/internal/program_blocks.h"

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
      : layout_(layout),
        model_(model),
        options_(options),
        blocks_(layout, model, options, &program_.trace) {}

  StepProgram Build() && {
    program_.kind = options_.kind;
    if (options_.kind == StepKind::kFlush) {
      UpdateAll();
      return std::move(program_);
    }
    const uint32_t all = options_.num_micro_batches;
    const uint32_t together = options_.schedule == Schedule::kVertical ? all : 1;
    for (uint32_t first = 0; first < all; first += together) Walk({first, first + together});
    if (options_.kind != StepKind::kInBackward) Clip();
    if (options_.kind == StepKind::kAfterNorm) UpdateAll();
    Report();
    return std::move(program_);
  }

 private:
  // The micro-batches that walk through the model together.
  struct Micros {
    uint32_t first = 0;
    uint32_t end = 0;
  };
  bool AreLast(Micros micros) const { return micros.end == options_.num_micro_batches; }

  uint32_t num_units() const { return static_cast<uint32_t>(layout_.units.size()); }
  uint32_t head_unit() const { return num_units() - 1; }
  bool tied() const { return model_.config().tie_word_embeddings; }
  bool has_ranks() const { return layout_.options.world_size > 1; }
  // Weights are whole on every rank, and each rank updates its part of them.
  bool updates_part() const {
    return layout_.options.shards_optimizer() && !layout_.options.shards_weights();
  }
  bool updates_in_backward() const {
    return options_.kind == StepKind::kInBackward || options_.kind == StepKind::kSpeculative;
  }
  Lane optimizer_lane() const { return options_.optimizer_on_device ? Lane::kCompute : Lane::kCpu; }
  const std::string& UnitName(uint32_t unit) const { return blocks_.UnitName(unit); }
  UnitKind KindOf(uint32_t unit) const { return layout_.unit_specs[unit].kind; }

  // W for the first toucher of a block in the step, RW afterwards.
  Access Accumulate(BlockId block) {
    bool is_first = touched_.insert(block).second;
    return {block, is_first ? kW : kRw};
  }

  // Of the attention and mlp units, which lie between embedding and head, the last ones.
  bool Keeps(uint32_t unit) const {
    return unit > 0 && unit < head_unit() && unit + options_.num_keeping_units >= head_unit();
  }

  void AddOp(TraceOp op, OpPayload payload) {
    program_.trace.ops.push_back(std::move(op));
    program_.payloads.push_back(payload);
  }

  void Walk(Micros micros) {
    for (uint32_t micro = micros.first; micro < micros.end; ++micro) LoadBatch(micro);
    Forward(micros);
    Head(micros);
    Backward(micros);
  }

  void LoadBatch(uint32_t micro) {
    BlockId tokens = blocks_.Tokens(micro);
    AddOp({.name = fmt::format("load batch micro={}", micro),
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
    AddOp({.name = fmt::format("gather {} {}", UnitName(unit), pass),
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
    if (options_.kind == StepKind::kDeferred && micros.first == 0) UpdateUnit(unit);
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
    AddOp({.name = fmt::format("{} {} micro={}", verb, UnitName(unit), micro),
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
      std::vector<Access> accesses = {{weights, kR}, Accumulate(blocks_.WholeGradient(unit))};
      if (tied()) {
        accesses.push_back({embedding, kR});
        accesses.push_back(Accumulate(blocks_.WholeGradient(0)));
      }
      accesses.push_back({blocks_.Input(unit, micro), kR});
      accesses.push_back({blocks_.Tokens(micro), kR});
      accesses.push_back({blocks_.Upstream(micro), kW});
      accesses.push_back(Accumulate(blocks_.Loss()));
      AddUnitOp("loss and backward", Pass::kBackward, unit, micro, std::move(accesses), payload);
    }
    if (AreLast(micros)) FinishGradient(unit);
  }

  void Backward(Micros micros) {
    for (uint32_t unit = head_unit() - 1; unit > 0; --unit) {
      BlockId weights = FetchWeights(unit, "backward");
      for (uint32_t micro = micros.first; micro < micros.end; ++micro)
        LayerBackward(unit, weights, micro);
      if (AreLast(micros)) FinishGradient(unit);
    }
    // Tied, one gradient is summed over what the head adds, then over what the embedding adds, in
    // this order in every schedule: so the embedding's wait for the last head.
    if (tied() && !AreLast(micros)) return;
    if (tied()) micros.first = 0;
    for (uint32_t micro = micros.first; micro < micros.end; ++micro) EmbeddingBackward(micro);
    if (AreLast(micros)) FinishGradient(0);
  }

  void LayerBackward(uint32_t unit, BlockId weights, uint32_t micro) {
    OpRole role =
        KindOf(unit) == UnitKind::kMlp ? OpRole::kMlpBackward : OpRole::kAttentionBackward;
    std::vector<Access> accesses = {
        {weights, kR}, {blocks_.Input(unit, micro), kR}, {blocks_.Upstream(micro), kRw}};
    if (Keeps(unit)) accesses.push_back({blocks_.Kept(unit, micro), kRw});
    accesses.push_back(Accumulate(blocks_.WholeGradient(unit)));
    AddUnitOp("backward", Pass::kBackward, unit, micro, std::move(accesses),
              {.role = role, .is_first = micro == 0});
  }

  void EmbeddingBackward(uint32_t micro) {
    Access gradient = Accumulate(blocks_.WholeGradient(0));
    AddUnitOp("backward", Pass::kBackward, 0, micro,
              {{blocks_.Tokens(micro), kR}, {blocks_.Upstream(micro), kR}, gradient},
              {.role = OpRole::kEmbeddingBackward, .is_first = gradient.mode == kW});
  }

  // From the unit's summed fp32 gradient to what the optimizer reads, and its share of the norm.
  void FinishGradient(uint32_t unit) {
    BlockId gradient = blocks_.WholeGradient(unit);
    if (layout_.options.shards_gradients()) {
      gradient = ReduceGradient(unit, gradient);
    } else if (has_ranks()) {
      AllReduceGradient(unit, gradient);
    }
    if (blocks_.rounds_gradients()) gradient = RoundGradient(unit, gradient);
    Access norms = Accumulate(blocks_.Norms());
    AddOp({.name = "norm " + UnitName(unit),
           .kind = "norm",
           .lane = optimizer_lane(),
           .accesses = {{gradient, kR}, norms},
           .work = GradientBytes(unit)},
          {.role = OpRole::kNorm, .unit = unit, .is_first = norms.mode == kW});
    if (updates_in_backward()) UpdateUnit(unit);
  }

  double GradientBytes(uint32_t unit) const {
    return static_cast<double>(blocks_.GradientElements(unit) * SizeOf(layout_.options.precision));
  }

  // Every byte goes round twice: once to be summed, once to be told.
  void AllReduceGradient(uint32_t unit, BlockId whole) {
    AddOp({.name = "all-reduce " + UnitName(unit),
           .kind = "reduce",
           .lane = Lane::kComm,
           .accesses = {{whole, kRw}},
           .work = static_cast<double>(2 * blocks_.SizeOf(whole))},
          {.role = OpRole::kAllReduceGradient, .unit = unit});
  }

  BlockId ReduceGradient(uint32_t unit, BlockId whole) {
    BlockId shard = blocks_.ReducedGradient(unit);
    AddOp({.name = "reduce " + UnitName(unit),
           .kind = "reduce",
           .lane = Lane::kComm,
           .accesses = {{whole, kR}, {shard, kW}},
           .work = static_cast<double>(blocks_.SizeOf(whole))},
          {.role = OpRole::kReduceGradient, .unit = unit});
    return shard;
  }

  BlockId RoundGradient(uint32_t unit, BlockId fp32) {
    uint64_t elements = blocks_.GradientElements(unit);
    BlockId rounded = blocks_.RoundedGradient(unit);
    AddOp({.name = "round gradient " + UnitName(unit),
           .kind = "round",
           .lane = Lane::kCompute,
           .accesses = {{fp32, kR}, {rounded, kW}},
           .work =
               static_cast<double>(elements * (sizeof(float) + SizeOf(layout_.options.precision)))},
          {.role = OpRole::kRoundGradient, .unit = unit});
    return rounded;
  }

  void Clip() {
    AddOp({.name = "clip",
           .kind = "clip",
           .lane = optimizer_lane(),
           .accesses = {{blocks_.Norms(), kR}, {blocks_.Clip(), kW}},
           .work = static_cast<double>(num_units() * sizeof(double))},
          {.role = OpRole::kClip});
  }

  // From the last unit to the first: the next forward pass then finds the first ones in memory.
  void UpdateAll() {
    for (uint32_t unit = num_units(); unit-- > 0;) UpdateUnit(unit);
  }

  // This rank's part of `whole`, in a block of its own.
  BlockId TakeOwn(uint32_t unit, std::string_view what, BlockId whole, OpRole role) {
    BlockId own =
        blocks_.Own(unit, what, role == OpRole::kTakeOwnWeights ? "weights" : "gradients");
    AddOp({.name = fmt::format("take own {} {}", what, UnitName(unit)),
           .kind = "take",
           .lane = Lane::kCompute,
           .accesses = {{whole, kR}, {own, kW}},
           .work = static_cast<double>(2 * blocks_.SizeOf(own))},
          {.role = role, .unit = unit});
    return own;
  }

  void ShareWeights(uint32_t unit, BlockId own) {
    BlockId whole = blocks_.Weights(unit);
    AddOp({.name = "share " + UnitName(unit),
           .kind = "gather",
           .lane = Lane::kComm,
           .accesses = {{own, kR}, {whole, kW}},
           .work = static_cast<double>(blocks_.SizeOf(whole))},
          {.role = OpRole::kShareWeights, .unit = unit});
  }

  // Stages 1 and 2: on the rank's own part, which is then shared.
  void UpdateUnit(uint32_t unit) {
    BlockId gradient = blocks_.FinalGradient(unit);
    if (!updates_part()) return UpdateShard(unit, blocks_.Weights(unit), gradient);
    if (!layout_.options.shards_gradients())
      gradient = TakeOwn(unit, "g", gradient, OpRole::kTakeOwnGradient);
    BlockId own = TakeOwn(unit, "w", blocks_.Weights(unit), OpRole::kTakeOwnWeights);
    UpdateShard(unit, own, gradient);
    ShareWeights(unit, own);
  }

  void UpdateShard(uint32_t unit, BlockId weights, BlockId gradient) {
    const UnitState& state = layout_.units[unit];
    for (uint32_t c = 0; c < state.chunks.size(); ++c) {
      const UnitState::Chunk& chunk = state.chunks[c];
      std::vector<Access> accesses = {{BlockId(chunk.master), kRw},
                                      {BlockId(chunk.m), kRw},
                                      {BlockId(chunk.v), kRw},
                                      {gradient, kR}};
      bool reads_weights = layout_.options.format != StateFormat::kFp32;
      if (blocks_.rounds_gradients())
        accesses.push_back({weights, c == 0 && !reads_weights ? kW : kRw});
      if (!updates_in_backward()) accesses.push_back({blocks_.Clip(), kR});
      AddOp(
          {.name = fmt::format("update {} chunk={}", UnitName(unit), c),
           .kind = "adam",
           .lane = optimizer_lane(),
           .accesses = std::move(accesses),
           .work = UpdateBytes(chunk)},
          {.role = OpRole::kUpdate, .unit = unit, .chunk = c, .is_scaled = !updates_in_backward()});
    }
  }

  // What passes between memory and the processor.
  double UpdateBytes(const UnitState::Chunk& chunk) const {
    uint64_t bytes = chunk.num_elements * SizeOf(layout_.options.precision);  // the gradient
    for (uint32_t block : {chunk.master, chunk.m, chunk.v}) {
      bytes += 2 * chunk.num_elements * layout_.blocks[block].size_bytes() /
               layout_.blocks[block].num_elements;
    }
    if (blocks_.rounds_gradients()) {
      int passes = layout_.options.format == StateFormat::kFp32 ? 1 : 2;
      bytes += passes * chunk.num_elements * SizeOf(layout_.options.precision);
    }
    return static_cast<double>(bytes);
  }

  void Report() {
    AddOp({.name = "report",
           .kind = "report",
           .lane = Lane::kCpu,
           .accesses = {{blocks_.Loss(), kR}, {blocks_.Norms(), kR}},
           .work = static_cast<double>((num_units() + 1) * sizeof(double))},
          {.role = OpRole::kReport});
  }

  const StateLayout& layout_;
  const LlamaModel& model_;
  const StepProgramOptions options_;
  StepProgram program_;
  ProgramBlocks blocks_;
  std::set<BlockId> touched_;
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
