#include "engine/zero/internal/gradient_ops.h"

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

void GradientOps::Finish(uint32_t unit) {
  BlockId gradient = blocks_.WholeGradient(unit);
  if (layout_.options.shards_gradients()) {
    gradient = ReduceGradient(unit, gradient);
  } else if (layout_.options.world_size > 1) {
    AllReduceGradient(unit, gradient);
  }
  if (blocks_.rounds_gradients())
    RoundGradient(unit, gradient);
  else
    AddNorm(unit, gradient);
}

void GradientOps::Clip() {
  writer_.Add({.name = "clip",
               .kind = "clip",
               .lane = writer_.optimizer_lane(),
               .accesses = {{blocks_.Norms(), kR}, {blocks_.Clip(), kW}},
               .work = static_cast<double>(writer_.num_units() * sizeof(double))},
              {.role = OpRole::kClip});
}

// Every byte goes round twice: once to be summed, once to be told.
void GradientOps::AllReduceGradient(uint32_t unit, BlockId whole) {
  writer_.Add({.name = "all-reduce " + writer_.UnitName(unit),
               .kind = "reduce",
               .lane = Lane::kComm,
               .accesses = {{whole, kRw}},
               .work = static_cast<double>(2 * blocks_.SizeOf(whole))},
              {.role = OpRole::kAllReduceGradient, .unit = unit});
}

BlockId GradientOps::ReduceGradient(uint32_t unit, BlockId whole) {
  BlockId shard = blocks_.ReducedGradient(unit);
  writer_.Add({.name = "reduce " + writer_.UnitName(unit),
               .kind = "reduce",
               .lane = Lane::kComm,
               .accesses = {{whole, kR}, {shard, kW}},
               .work = static_cast<double>(blocks_.SizeOf(whole))},
              {.role = OpRole::kReduceGradient, .unit = unit});
  return shard;
}

void GradientOps::RoundGradient(uint32_t unit, BlockId fp32) {
  const BlockId rounded = blocks_.RoundedGradient(unit);
  const Access norms = writer_.Accumulate(blocks_.Norms());
  writer_.Add({.name = "round gradient " + writer_.UnitName(unit),
               .kind = "round",
               .lane = Lane::kCompute,
               .accesses = {{fp32, kR}, {rounded, kW}, norms},
               .work = static_cast<double>(blocks_.SizeOf(fp32) + blocks_.SizeOf(rounded))},
              {.role = OpRole::kRoundGradient, .unit = unit, .is_first = norms.mode == kW});
}

void GradientOps::AddNorm(uint32_t unit, BlockId gradient) {
  const Access norms = writer_.Accumulate(blocks_.Norms());
  writer_.Add({.name = "norm " + writer_.UnitName(unit),
               .kind = "norm",
               .lane = writer_.optimizer_lane(),
               .accesses = {{gradient, kR}, norms},
               .work = static_cast<double>(blocks_.SizeOf(gradient))},
              {.role = OpRole::kNorm, .unit = unit, .is_first = norms.mode == kW});
}

}  // namespace strata::engine
