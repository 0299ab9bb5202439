#include "engine/zero/internal/program_blocks.h"

#include <fmt/format.h>

#include "aio/base/check.h"

namespace strata::engine {

using prefetch::BlockId;
using prefetch::Lifetime;
using tiering::Tier;

ProgramBlocks::ProgramBlocks(const StateLayout& layout, const LlamaModel& model,
                             const StepProgramOptions& options, prefetch::Trace* trace)
    : layout_(layout), model_(model), options_(options), trace_(trace) {
  STRATA_CHECK(options.communication == DType::kF32 ||
               options.communication == layout.options.precision);
  AddState();
  if (KeepsGradients(options_.kind)) AddPending();
}

void ProgramBlocks::AddState() {
  for (const StateBlock& block : layout_.blocks) {
    const bool is_weights = block.kind == StateKind::kWeights;
    trace_->blocks.push_back({.name = block.name,
                              .purpose = is_weights ? "weights" : "optimizer",
                              .size_bytes = block.size_bytes(),
                              .lifetime = Lifetime::kPersistent,
                              .home = block.home});
  }
}

void ProgramBlocks::AddPending() {
  STRATA_CHECK(options_.pending_homes.size() == layout_.units.size());
  for (uint32_t unit = 0; unit < layout_.units.size(); ++unit)
    OutliveStep(FinalGradient(unit), options_.pending_homes[unit]);
  OutliveStep(Clip(), Tier::kHost);  // a few bytes, that every update needs
}

void ProgramBlocks::OutliveStep(BlockId block, Tier home) {
  trace_->blocks[Index(block)].lifetime = Lifetime::kPersistent;
  trace_->blocks[Index(block)].home = home;
}

BlockId ProgramBlocks::Named(const std::string& name, std::string_view purpose,
                             uint64_t size_bytes) {
  auto [it, is_new] = by_name_.try_emplace(name, BlockId{});
  if (is_new) {
    it->second = BlockId(trace_->blocks.size());
    trace_->blocks.push_back({.name = name,
                              .purpose = std::string(purpose),
                              .size_bytes = size_bytes,
                              .lifetime = Lifetime::kStep,
                              .home = Tier::kHost});
  }
  return it->second;
}

BlockId ProgramBlocks::GatheredWeights(uint32_t unit, std::string_view pass) {
  return Named(fmt::format("{}/w {}", UnitName(unit), pass), "gathered",
               layout_.units[unit].whole_elements * engine::SizeOf(layout_.options.precision));
}

BlockId ProgramBlocks::Tokens(uint32_t micro) {
  return Named(fmt::format("tokens micro={}", micro), "batch",
               2 * sizeof(int32_t) * model_.batch().num_tokens());
}

BlockId ProgramBlocks::Input(uint32_t sublayer, uint32_t micro) {
  return Named(fmt::format("{}/x micro={}", layout_.sublayers[sublayer].name, micro), "activations",
               model_.ActivationBytes());
}

BlockId ProgramBlocks::Kept(uint32_t sublayer, const Tile& tile, uint32_t micro) {
  const Sublayer& owner = layout_.sublayers[sublayer];
  const bool is_whole = tile.num_parts == owner.num_parts;
  const std::string part = is_whole ? "" : fmt::format(".{}", tile.first_part);
  return Named(fmt::format("{}{}/kept micro={}", owner.name, part, micro), "intermediates",
               model_.KeptBytes(owner.kind, tile));
}

BlockId ProgramBlocks::Sum(uint32_t sublayer, std::string_view pass, uint32_t micro) {
  return Named(fmt::format("{}/{} sum micro={}", layout_.sublayers[sublayer].name, pass, micro),
               "activations", model_.SumBytes());
}

BlockId ProgramBlocks::Softmax(uint32_t micro) {
  return Named(fmt::format("softmax micro={}", micro), "activations", model_.SoftmaxBytes());
}

BlockId ProgramBlocks::Upstream(uint32_t micro) {
  return Named(fmt::format("d micro={}", micro), "activations", model_.ActivationBytes());
}

BlockId ProgramBlocks::WholeGradient(uint32_t unit) {
  return Named(UnitName(unit) + "/g32", "gradients",
               layout_.units[unit].whole_elements * sizeof(float));
}

BlockId ProgramBlocks::ReducedGradient(uint32_t unit) {
  return Named(UnitName(unit) + "/g32 shard", "gradients",
               layout_.units[unit].shard_elements * sizeof(float));
}

BlockId ProgramBlocks::SentGradient(uint32_t unit) {
  return Named(UnitName(unit) + "/g sent", "gradients",
               layout_.units[unit].whole_elements * engine::SizeOf(options_.communication));
}

BlockId ProgramBlocks::RoundedGradient(uint32_t unit) {
  return Named(UnitName(unit) + "/g", "gradients",
               GradientElements(unit) * engine::SizeOf(layout_.options.precision));
}

BlockId ProgramBlocks::FinalGradient(uint32_t unit) {
  if (rounds_gradients()) return RoundedGradient(unit);
  return layout_.options.shards_gradients() ? ReducedGradient(unit) : WholeGradient(unit);
}

BlockId ProgramBlocks::Own(uint32_t unit, std::string_view what, std::string_view purpose) {
  return Named(fmt::format("{}/{} own", UnitName(unit), what), purpose,
               layout_.units[unit].shard_elements * engine::SizeOf(layout_.options.precision));
}

BlockId ProgramBlocks::Norms() {
  return Named("norms", "scalars", layout_.units.size() * sizeof(double));
}
BlockId ProgramBlocks::Clip() { return Named("clip", "scalars", sizeof(double)); }
BlockId ProgramBlocks::Loss() { return Named("loss", "scalars", sizeof(double)); }

}  // namespace strata::engine
