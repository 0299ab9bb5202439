#include "engine/zero/step_program.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <string>

namespace strata::engine {
namespace {

using prefetch::Access;
using prefetch::AccessMode;
using prefetch::BlockId;
using prefetch::Lane;
using prefetch::Lifetime;
using prefetch::TraceOp;

constexpr AccessMode kR = AccessMode::kRead;
constexpr AccessMode kW = AccessMode::kWrite;
constexpr AccessMode kRw = AccessMode::kReadWrite;

std::string_view PurposeOf(StateKind kind) {
  return kind == StateKind::kWeights ? "weights" : "optimizer";
}

class ProgramBuilder {
 public:
  ProgramBuilder(const StateLayout& layout, const LlamaModel& model,
                 const StepProgramOptions& options)
      : layout_(layout), model_(model), options_(options) {
    for (const StateBlock& block : layout.blocks) {
      program_.trace.blocks.push_back({.name = block.name,
                                       .purpose = std::string(PurposeOf(block.kind)),
                                       .size_bytes = block.size_bytes(),
                                       .lifetime = Lifetime::kPersistent,
                                       .home = block.home});
    }
  }

  StepProgram Build() && {
    const uint32_t all = options_.num_micro_batches;
    const uint32_t together = options_.schedule == Schedule::kVertical ? all : 1;
    for (uint32_t first = 0; first < all; first += together) Walk({first, first + together});
    if (options_.clips) ClipThenUpdateAll();
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
  bool rounds_gradients() const { return layout_.options.precision == DType::kBf16; }
  Lane optimizer_lane() const { return options_.optimizer_on_device ? Lane::kCompute : Lane::kCpu; }
  const std::string& UnitName(uint32_t unit) const { return layout_.unit_specs[unit].name; }
  UnitKind KindOf(uint32_t unit) const { return layout_.unit_specs[unit].kind; }
  uint64_t WholeElements(uint32_t unit) const { return layout_.units[unit].whole_elements; }

  // The step block of this name, made on first use.
  BlockId StepBlock(const std::string& name, std::string_view purpose, uint64_t size_bytes) {
    auto [it, is_new] = step_blocks_.try_emplace(name, BlockId{});
    if (is_new) {
      it->second = BlockId(program_.trace.blocks.size());
      program_.trace.blocks.push_back({.name = name,
                                       .purpose = std::string(purpose),
                                       .size_bytes = size_bytes,
                                       .lifetime = Lifetime::kStep,
                                       .home = tiering::Tier::kHost});
    }
    return it->second;
  }
  // W for the first toucher of a block in the step, RW afterwards.
  Access Accumulate(BlockId block) {
    bool is_first = touched_.insert(block).second;
    return {block, is_first ? kW : kRw};
  }

  BlockId Weights(uint32_t unit) const { return BlockId(layout_.units[unit].weights); }
  BlockId Tokens(uint32_t micro) {
    return StepBlock(fmt::format("tokens micro={}", micro), "batch",
                     2 * sizeof(int32_t) * model_.batch().num_tokens());
  }
  BlockId Input(uint32_t unit, uint32_t micro) {
    return StepBlock(fmt::format("{}/x micro={}", UnitName(unit), micro), "activations",
                     model_.ActivationBytes());
  }
  // Of the attention and mlp units, which lie between embedding and head, the last ones.
  bool Keeps(uint32_t unit) const {
    return unit > 0 && unit < head_unit() && unit + options_.num_keeping_units >= head_unit();
  }
  BlockId Kept(uint32_t unit, uint32_t micro) {
    return StepBlock(fmt::format("{}/kept micro={}", UnitName(unit), micro), "intermediates",
                     model_.KeptBytes(KindOf(unit)));
  }
  BlockId Upstream(uint32_t micro) {
    return StepBlock(fmt::format("d micro={}", micro), "activations", model_.ActivationBytes());
  }
  BlockId WholeGradient(uint32_t unit) {
    return StepBlock(UnitName(unit) + "/g32", "gradients", WholeElements(unit) * sizeof(float));
  }
  BlockId Norms() { return StepBlock("norms", "scalars", num_units() * sizeof(double)); }
  BlockId Clip() { return StepBlock("clip", "scalars", sizeof(double)); }
  BlockId Loss() { return StepBlock("loss", "scalars", sizeof(double)); }

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
    BlockId tokens = Tokens(micro);
    AddOp({.name = fmt::format("load batch micro={}", micro),
           .kind = "batch",
           .lane = Lane::kCpu,
           .accesses = {{tokens, kW}},
           .work = static_cast<double>(program_.trace.blocks[Index(tokens)].size_bytes)},
          {.role = OpRole::kLoadBatch, .micro = micro});
  }

  // The block that holds the unit's whole weights for one pass: its shard when there is one rank.
  BlockId FetchWeights(uint32_t unit, std::string_view pass) {
    if (!layout_.options.shards_weights()) return Weights(unit);
    uint64_t size = WholeElements(unit) * SizeOf(layout_.options.precision);
    BlockId whole = StepBlock(fmt::format("{}/w {}", UnitName(unit), pass), "gathered", size);
    AddOp({.name = fmt::format("gather {} {}", UnitName(unit), pass),
           .kind = "gather",
           .lane = Lane::kComm,
           .accesses = {{Weights(unit), kR}, {whole, kW}},
           .work = static_cast<double>(size)},
          {.role = OpRole::kGatherWeights, .unit = unit});
    return whole;
  }

  void Forward(Micros micros) {
    for (uint32_t unit = 0; unit < head_unit(); ++unit) {
      BlockId weights = FetchWeights(unit, "forward");
      for (uint32_t micro = micros.first; micro < micros.end; ++micro) {
        BlockId in = unit == 0 ? Tokens(micro) : Input(unit, micro);
        std::vector<Access> accesses = {{weights, kR}, {in, kR}, {Input(unit + 1, micro), kW}};
        if (Keeps(unit)) accesses.push_back({Kept(unit, micro), kW});
        ForwardOp(unit, micro, std::move(accesses));
      }
    }
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
    BlockId weights = FetchWeights(unit, "head");
    BlockId embedding = tied() ? FetchWeights(0, "head") : BlockId{};
    for (uint32_t micro = micros.first; micro < micros.end; ++micro) {
      OpPayload payload{
          .role = OpRole::kHead, .is_first = micro == 0, .is_first_embedding_gradient = micro == 0};
      std::vector<Access> accesses = {{weights, kR}, Accumulate(WholeGradient(unit))};
      if (tied()) {
        accesses.push_back({embedding, kR});
        accesses.push_back(Accumulate(WholeGradient(0)));
      }
      accesses.push_back({Input(unit, micro), kR});
      accesses.push_back({Tokens(micro), kR});
      accesses.push_back({Upstream(micro), kW});
      accesses.push_back(Accumulate(Loss()));
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
        {weights, kR}, {Input(unit, micro), kR}, {Upstream(micro), kRw}};
    if (Keeps(unit)) accesses.push_back({Kept(unit, micro), kRw});
    accesses.push_back(Accumulate(WholeGradient(unit)));
    AddUnitOp("backward", Pass::kBackward, unit, micro, std::move(accesses),
              {.role = role, .is_first = micro == 0});
  }

  void EmbeddingBackward(uint32_t micro) {
    Access gradient = Accumulate(WholeGradient(0));
    AddUnitOp("backward", Pass::kBackward, 0, micro,
              {{Tokens(micro), kR}, {Upstream(micro), kR}, gradient},
              {.role = OpRole::kEmbeddingBackward, .is_first = gradient.mode == kW});
  }

  // From the unit's summed fp32 gradient to what the optimizer reads, and its share of the norm.
  void FinishGradient(uint32_t unit) {
    BlockId gradient = WholeGradient(unit);
    if (layout_.options.shards_gradients()) {
      gradient = ReduceGradient(unit, gradient);
    } else if (has_ranks()) {
      AllReduceGradient(unit, gradient);
    }
    if (rounds_gradients()) gradient = RoundGradient(unit, gradient);
    gradients_[unit] = gradient;
    Access norms = Accumulate(Norms());
    AddOp({.name = "norm " + UnitName(unit),
           .kind = "norm",
           .lane = optimizer_lane(),
           .accesses = {{gradient, kR}, norms},
           .work = GradientBytes(unit)},
          {.role = OpRole::kNorm, .unit = unit, .is_first = norms.mode == kW});
    if (!options_.clips) UpdateUnit(unit);
  }

  double GradientBytes(uint32_t unit) const {
    return static_cast<double>(GradientElements(unit) * SizeOf(layout_.options.precision));
  }

  // Of a unit's gradient, once it is reduced.
  uint64_t GradientElements(uint32_t unit) const {
    const UnitState& state = layout_.units[unit];
    return layout_.options.shards_gradients() ? state.shard_elements : state.whole_elements;
  }

  // Every byte goes round twice: once to be summed, once to be told.
  void AllReduceGradient(uint32_t unit, BlockId whole) {
    AddOp({.name = "all-reduce " + UnitName(unit),
           .kind = "reduce",
           .lane = Lane::kComm,
           .accesses = {{whole, kRw}},
           .work = static_cast<double>(2 * WholeElements(unit) * sizeof(float))},
          {.role = OpRole::kAllReduceGradient, .unit = unit});
  }

  BlockId ReduceGradient(uint32_t unit, BlockId whole) {
    BlockId shard = StepBlock(UnitName(unit) + "/g32 shard", "gradients",
                              layout_.units[unit].shard_elements * sizeof(float));
    AddOp({.name = "reduce " + UnitName(unit),
           .kind = "reduce",
           .lane = Lane::kComm,
           .accesses = {{whole, kR}, {shard, kW}},
           .work = static_cast<double>(WholeElements(unit) * sizeof(float))},
          {.role = OpRole::kReduceGradient, .unit = unit});
    return shard;
  }

  BlockId RoundGradient(uint32_t unit, BlockId fp32) {
    uint64_t elements = GradientElements(unit);
    BlockId rounded =
        StepBlock(UnitName(unit) + "/g", "gradients", elements * SizeOf(DType::kBf16));
    AddOp({.name = "round gradient " + UnitName(unit),
           .kind = "round",
           .lane = Lane::kCompute,
           .accesses = {{fp32, kR}, {rounded, kW}},
           .work = static_cast<double>(elements * (sizeof(float) + SizeOf(DType::kBf16)))},
          {.role = OpRole::kRoundGradient, .unit = unit});
    return rounded;
  }

  void ClipThenUpdateAll() {
    AddOp({.name = "clip",
           .kind = "clip",
           .lane = optimizer_lane(),
           .accesses = {{Norms(), kR}, {Clip(), kW}},
           .work = static_cast<double>(num_units() * sizeof(double))},
          {.role = OpRole::kClip});
    // From the last unit to the first: the next forward pass then finds the first ones in memory.
    for (uint32_t unit = num_units(); unit-- > 0;) UpdateUnit(unit);
  }

  // This rank's part of `whole`, in a block of its own.
  BlockId TakeOwn(uint32_t unit, std::string_view what, BlockId whole, OpRole role) {
    uint64_t size = layout_.units[unit].shard_elements * SizeOf(layout_.options.precision);
    BlockId own = StepBlock(fmt::format("{}/{} own", UnitName(unit), what),
                            role == OpRole::kTakeOwnWeights ? "weights" : "gradients", size);
    AddOp({.name = fmt::format("take own {} {}", what, UnitName(unit)),
           .kind = "take",
           .lane = Lane::kCompute,
           .accesses = {{whole, kR}, {own, kW}},
           .work = static_cast<double>(2 * size)},
          {.role = role, .unit = unit});
    return own;
  }

  void ShareWeights(uint32_t unit, BlockId own) {
    uint64_t size = WholeElements(unit) * SizeOf(layout_.options.precision);
    AddOp({.name = "share " + UnitName(unit),
           .kind = "gather",
           .lane = Lane::kComm,
           .accesses = {{own, kR}, {Weights(unit), kW}},
           .work = static_cast<double>(size)},
          {.role = OpRole::kShareWeights, .unit = unit});
  }

  // Stages 1 and 2: on the rank's own part, which is then shared.
  void UpdateUnit(uint32_t unit) {
    if (!updates_part()) return UpdateShard(unit, Weights(unit));
    if (!layout_.options.shards_gradients()) {
      gradients_[unit] = TakeOwn(unit, "g", gradients_[unit], OpRole::kTakeOwnGradient);
    }
    BlockId own = TakeOwn(unit, "w", Weights(unit), OpRole::kTakeOwnWeights);
    UpdateShard(unit, own);
    ShareWeights(unit, own);
  }

  void UpdateShard(uint32_t unit, BlockId weights) {
    const UnitState& state = layout_.units[unit];
    for (uint32_t c = 0; c < state.chunks.size(); ++c) {
      const UnitState::Chunk& chunk = state.chunks[c];
      std::vector<Access> accesses = {{BlockId(chunk.master), kRw},
                                      {BlockId(chunk.m), kRw},
                                      {BlockId(chunk.v), kRw},
                                      {gradients_[unit], kR}};
      bool reads_weights = layout_.options.format != StateFormat::kFp32;
      if (rounds_gradients()) {
        accesses.push_back({weights, c == 0 && !reads_weights ? kW : kRw});
      }
      if (options_.clips) accesses.push_back({Clip(), kR});
      AddOp({.name = fmt::format("update {} chunk={}", UnitName(unit), c),
             .kind = "adam",
             .lane = optimizer_lane(),
             .accesses = std::move(accesses),
             .work = UpdateBytes(chunk)},
            {.role = OpRole::kUpdate, .unit = unit, .chunk = c});
    }
  }

  // What passes between memory and the processor.
  double UpdateBytes(const UnitState::Chunk& chunk) const {
    uint64_t bytes = chunk.num_elements * SizeOf(layout_.options.precision);  // the gradient
    for (uint32_t block : {chunk.master, chunk.m, chunk.v}) {
      bytes += 2 * chunk.num_elements * layout_.blocks[block].size_bytes() /
               layout_.blocks[block].num_elements;
    }
    if (rounds_gradients()) {
      int passes = layout_.options.format == StateFormat::kFp32 ? 1 : 2;
      bytes += passes * chunk.num_elements * SizeOf(DType::kBf16);
    }
    return static_cast<double>(bytes);
  }

  void Report() {
    AddOp({.name = "report",
           .kind = "report",
           .lane = Lane::kCpu,
           .accesses = {{Loss(), kR}, {Norms(), kR}},
           .work = static_cast<double>((num_units() + 1) * sizeof(double))},
          {.role = OpRole::kReport});
  }

  const StateLayout& layout_;
  const LlamaModel& model_;
  const StepProgramOptions options_;
  StepProgram program_;
  std::map<std::string, BlockId> step_blocks_;
  std::set<BlockId> touched_;
  std::map<uint32_t, BlockId> gradients_;  // what the optimizer reads, by unit
};

}  // namespace

StepProgram MakeStepProgram(const StateLayout& layout, const LlamaModel& model,
                            const StepProgramOptions& options) {
  return ProgramBuilder(layout, model, options).Build();
}

}  // namespace strata::engine
