#include "engine/zero/internal/update_ops.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace strata::engine {
namespace {

using prefetch::Access;
using prefetch::AccessMode;
using prefetch::BlockId;
using prefetch::Lane;

constexpr AccessMode kR = AccessMode::kRead;
constexpr AccessMode kW = AccessMode::kWrite;
constexpr AccessMode kRw = AccessMode::kReadWrite;

}  // namespace

void UpdateOps::UpdateAll() {
  for (uint32_t unit = writer_.num_units(); unit-- > 0;) Update(unit);
}

void UpdateOps::Update(uint32_t unit) {
  BlockId gradient = blocks_.FinalGradient(unit);
  if (!updates_part()) return UpdateShard(unit, blocks_.Weights(unit), gradient);
  if (!layout_.options.shards_gradients())
    gradient = TakeOwn(unit, "g", gradient, OpRole::kTakeOwnGradient);
  BlockId own = TakeOwn(unit, "w", blocks_.Weights(unit), OpRole::kTakeOwnWeights);
  UpdateShard(unit, own, gradient);
  ShareWeights(unit, own);
}

BlockId UpdateOps::TakeOwn(uint32_t unit, std::string_view what, BlockId whole, OpRole role) {
  BlockId own = blocks_.Own(unit, what, role == OpRole::kTakeOwnWeights ? "weights" : "gradients");
  writer_.Add({.name = fmt::format("take own {} {}", what, writer_.UnitName(unit)),
               .kind = "take",
               .lane = Lane::kCompute,
               .accesses = {{whole, kR}, {own, kW}},
               .work = static_cast<double>(2 * blocks_.SizeOf(own))},
              {.role = role, .unit = unit});
  return own;
}

void UpdateOps::ShareWeights(uint32_t unit, BlockId own) {
  BlockId whole = blocks_.Weights(unit);
  writer_.Add({.name = "share " + writer_.UnitName(unit),
               .kind = "gather",
               .lane = Lane::kComm,
               .accesses = {{own, kR}, {whole, kW}},
               .work = static_cast<double>(blocks_.SizeOf(whole))},
              {.role = OpRole::kShareWeights, .unit = unit});
}

void UpdateOps::UpdateShard(uint32_t unit, BlockId weights, BlockId gradient) {
  const UnitState& state = layout_.units[unit];
  const bool is_on_device = writer_.updates_on_device(unit);
  for (uint32_t c = 0; c < state.chunks.size(); ++c) {
    const UnitState::Chunk& chunk = state.chunks[c];
    std::vector<Access> accesses = {{BlockId(chunk.master), kRw},
                                    {BlockId(chunk.m), kRw},
                                    {BlockId(chunk.v), kRw},
                                    {gradient, kR}};
    bool reads_weights = layout_.options.format != StateFormat::kFp32;
    if (blocks_.rounds_gradients())
      accesses.push_back({weights, c == 0 && !reads_weights ? kW : kRw});
    if (!writer_.updates_in_backward()) accesses.push_back({blocks_.Clip(), kR});
    writer_.Add({.name = fmt::format("update {} chunk={}", writer_.UnitName(unit), c),
                 .kind = is_on_device ? "adam.device" : "adam",
                 .lane = is_on_device ? Lane::kCompute : Lane::kCpu,
                 .accesses = std::move(accesses),
                 .work = UpdateBytes(chunk)},
                {.role = OpRole::kUpdate,
                 .unit = unit,
                 .chunk = c,
                 .is_scaled = !writer_.updates_in_backward(),
                 .is_on_device = is_on_device});
  }
}

double UpdateOps::UpdateBytes(const UnitState::Chunk& chunk) const {
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

}  // namespace strata::engine
