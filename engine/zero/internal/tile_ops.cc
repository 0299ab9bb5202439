#include "engine/zero/internal/tile_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

using prefetch::Access;
using prefetch::AccessMode;
using prefetch::BlockId;
using prefetch::Lane;

constexpr AccessMode kR = AccessMode::kRead;
constexpr AccessMode kW = AccessMode::kWrite;

std::string KindName(UnitKind kind, Pass pass) {
  constexpr std::array<std::string_view, 4> kNames = {"embedding", "attention", "mlp", "head"};
  const std::string_view name = kNames[static_cast<size_t>(kind)];
  if (kind == UnitKind::kHead) return std::string(name);
  return fmt::format("{}.{}", name, pass == Pass::kForward ? "forward" : "backward");
}

}  // namespace

std::vector<Tiled> TileOps::Of(uint32_t number, Pass pass) const {
  const uint32_t parts = layout_.sublayers[number].num_parts;
  const uint32_t step = std::min(writer_.options().parts_per_op, parts);
  std::vector<Tiled> tiles;
  for (uint32_t first = 0; first < parts; first += step) {
    tiles.push_back({.sublayer = number,
                     .tile = {first, std::min(step, parts - first)},
                     .is_whole = step == parts,
                     .is_first = false,
                     .is_last = false});
  }
  if (pass == Pass::kBackward) std::reverse(tiles.begin(), tiles.end());
  tiles.front().is_first = true;
  tiles.back().is_last = true;
  return tiles;
}

std::vector<uint32_t> TileOps::PartUnits(const Tiled& tiled) const {
  std::vector<uint32_t> units(tiled.tile.num_parts);
  std::iota(units.begin(), units.end(), SublayerOf(tiled).first_part + tiled.tile.first_part);
  return units;
}

std::vector<uint32_t> TileOps::GradientUnits(const Tiled& tiled) const {
  std::vector<uint32_t> units = PartUnits(tiled);
  const Sublayer& sublayer = SublayerOf(tiled);
  if (sublayer.has_norm_apart() && tiled.tile.first_part == 0) units.push_back(*sublayer.norm_unit);
  return units;
}

bool TileOps::AppendGradients(const Tiled& tiled, std::vector<Access>& accesses) {
  bool is_first = false;
  for (uint32_t unit : GradientUnits(tiled)) {
    accesses.push_back(writer_.Accumulate(blocks_.WholeGradient(unit)));
    is_first = accesses.back().mode == kW;
  }
  return is_first;
}

BlockId TileOps::WeightsFor(uint32_t unit, std::string_view fetched_for) {
  if (!layout_.options.shards_weights()) return blocks_.Weights(unit);
  return blocks_.GatheredWeights(unit, fetched_for);
}

void TileOps::Gather(uint32_t unit, std::string_view fetched_for) {
  if (!layout_.options.shards_weights()) return;
  const BlockId whole = WeightsFor(unit, fetched_for);
  writer_.Add({.name = fmt::format("gather {} {}", writer_.UnitName(unit), fetched_for),
               .kind = "gather",
               .lane = Lane::kComm,
               .accesses = {{blocks_.Weights(unit), kR}, {whole, kW}},
               .work = static_cast<double>(blocks_.SizeOf(whole))},
              {.role = OpRole::kGatherWeights, .unit = unit});
}

void TileOps::Fetch(std::string_view fetched_for, Tiled& tiled) {
  const Sublayer& sublayer = SublayerOf(tiled);
  if (sublayer.has_norm_apart()) {
    if (tiled.is_first) Gather(*sublayer.norm_unit, fetched_for);
    tiled.weights.push_back({WeightsFor(*sublayer.norm_unit, fetched_for), kR});
  }
  for (uint32_t unit : PartUnits(tiled)) {
    Gather(unit, fetched_for);
    tiled.weights.push_back({WeightsFor(unit, fetched_for), kR});
  }
}

bool TileOps::Keeps(uint32_t sublayer) const {
  const size_t head = layout_.sublayers.size() - 1;
  return sublayer > 0 && sublayer < head && sublayer + writer_.options().num_keeping_units >= head;
}

// Of an embedding its share of the tokens' bytes, of others flops.
double TileOps::Work(Pass pass, const Tiled& tiled, Intermediates intermediates) const {
  const Sublayer& sublayer = SublayerOf(tiled);
  const LlamaModel& model = writer_.model();
  if (sublayer.kind != UnitKind::kEmbedding)
    return model.Flops(sublayer.kind, pass, intermediates, tiled.tile);
  return static_cast<double>(model.ActivationBytes()) * tiled.tile.num_parts / sublayer.num_parts;
}

void TileOps::Add(std::string_view verb, Pass pass, const Tiled& tiled, uint32_t micro,
                  std::vector<Access> accesses, OpPayload payload) {
  const Sublayer& sublayer = SublayerOf(tiled);
  payload.sublayer = tiled.sublayer;
  payload.tile = tiled.tile;
  payload.micro = micro;
  payload.keeps_intermediates = Keeps(tiled.sublayer);
  const Intermediates intermediates =
      payload.keeps_intermediates ? Intermediates::kKeep : Intermediates::kRecompute;
  const Tile& tile = tiled.tile;
  const std::string parts =
      tiled.is_whole ? "" : fmt::format(" parts={}..{}", tile.first_part, tile.end_part() - 1);
  writer_.Add(
      {.name = fmt::format("{} {}{} micro={}", verb, sublayer.name, parts, micro),
       .kind = KindName(sublayer.kind, pass),
       .lane = Lane::kCompute,
       .accesses = std::move(accesses),
       .workspace_bytes = writer_.model().WorkspaceBytes(sublayer.kind, pass, intermediates, tile),
       .work = Work(pass, tiled, intermediates)},
      payload);
}

}  // namespace strata::engine
