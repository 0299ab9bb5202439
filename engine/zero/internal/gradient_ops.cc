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
  if (blocks_.packs_gradients()) return FinishPacked(unit);
  BlockId gradient = blocks_.WholeGradient(unit);
  if (layout_.options.shards_gradients()) {
    gradient = blocks_.ReducedGradient(unit);
    ReduceGradient(unit, blocks_.WholeGradient(unit), gradient);
  } else if (layout_.options.world_size > 1) {
    AllReduceGradient(unit, gradient);
  }
  if (blocks_.rounds_gradients())
    RoundGradient(unit, gradient);
  else
    AddNorm(unit, gradient);
}

// The collective rounds its sum to what it sends, which is what the optimizer reads.
void GradientOps::FinishPacked(uint32_t unit) {
  const BlockId gradient = blocks_.RoundedGradient(unit);
  if (layout_.options.shards_gradients()) {
    PackGradient(unit, blocks_.SentGradient(unit));
    ReduceGradient(unit, blocks_.SentGradient(unit), gradient);
  } else {
    PackGradient(unit, gradient);
    AllReduceGradient(unit, gradient);
  }
  AddNorm(unit, gradient);
}

void GradientOps::Clip() {
  writer_.Add({.name = "clip",
               .kind = "clip",
               .lane = Lane::kCpu,  // a few numbers, wherever the updates are
               .accesses = {{blocks_.Norms(), kR}, {blocks_.Clip(), kW}},
               .work = static_cast<double>(writer_.num_units() * sizeof(double))},
              {.role = OpRole::kClip});
}

void GradientOps::PackGradient(uint32_t unit, BlockId sent) {
  const BlockId fp32 = blocks_.WholeGradient(unit);
  writer_.Add({.name = "pack gradient " + writer_.UnitName(unit),
               .kind = "pack",
               .lane = Lane::kCompute,
               .accesses = {{fp32, kR}, {sent, kW}},
               .work = static_cast<double>(blocks_.SizeOf(fp32) + blocks_.SizeOf(sent))},
              {.role = OpRole::kPackGradient, .unit = unit, .dtype = communication()});
}

// Every byte goes round twice: once to be summed, once to be told.
void GradientOps::AllReduceGradient(uint32_t unit, BlockId whole) {
  writer_.Add({.name = "all-reduce " + writer_.UnitName(unit),
               .kind = "reduce",
               .lane = Lane::kComm,
               .accesses = {{whole, kRw}},
               .work = static_cast<double>(2 * blocks_.SizeOf(whole))},
              {.role = OpRole::kAllReduceGradient, .unit = unit, .dtype = communication()});
}

void GradientOps::ReduceGradient(uint32_t unit, BlockId whole, BlockId shard) {
  writer_.Add({.name = "reduce " + writer_.UnitName(unit),
               .kind = "reduce",
               .lane = Lane::kComm,
               .accesses = {{whole, kR}, {shard, kW}},
               .work = static_cast<double>(blocks_.SizeOf(whole))},
              {.role = OpRole::kReduceGradient, .unit = unit, .dtype = communication()});
}

void GradientOps::RoundGradient(uint32_t unit, BlockId fp32) {
  const BlockId rounded = blocks_.RoundedGradient(unit);
  const Access norms = writer_.Accumulate(blocks_.Norms());
  writer_.Add({.name = "round gradient " + writer_.UnitName(unit),
               .kind = "round",
               .lane = Lane::kCompute,
               .accesses = {{fp32, kR}, {rounded, kW}, norms},
               .workspace_bytes = writer_.model().SquaresWorkspaceBytes(),
               .work = static_cast<double>(blocks_.SizeOf(fp32) + blocks_.SizeOf(rounded))},
              {.role = OpRole::kRoundGradient, .unit = unit, .is_first = norms.mode == kW});
}

void GradientOps::AddNorm(uint32_t unit, BlockId gradient) {
  const Access norms = writer_.Accumulate(blocks_.Norms());
  writer_.Add({.name = "norm " + writer_.UnitName(unit),
               .kind = "norm",
               .lane = Lane::kCompute,  // where the gradient is, reduced or computed
               .accesses = {{gradient, kR}, norms},
               .workspace_bytes = writer_.model().SquaresWorkspaceBytes(),
               .work = static_cast<double>(blocks_.SizeOf(gradient))},
              {.role = OpRole::kNorm, .unit = unit, .is_first = norms.mode == kW});
}

}  // namespace strata::engine
