#include "engine/train/host_cache.h"

#include <algorithm>
#include <array>
#include <vector>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"
#include "tiering/arena.h"

namespace strata::engine {
namespace {

using prefetch::StepPlan;
using tiering::Tier;

// Of the host budget. What streams needs room, too.
constexpr std::array<uint64_t, 7> kCacheSixteenths = {2, 4, 6, 8, 10, 12, 14};
// Simulated times closer than this are equal: the model is no better than that.
constexpr double kSameTime = 0.02;

Tier ConfiguredHome(const StateBlock& block, const LayoutOptions& options) {
  return block.kind == StateKind::kWeights ? options.weights_home : options.optimizer_home;
}

struct Candidate {
  uint64_t bytes = 0;
  double step_s = 0;
};

// The smallest of those that are about as fast as the fastest. `candidates` grow in size.
uint64_t Choose(const std::vector<Candidate>& candidates) {
  double fastest_s = std::ranges::min_element(candidates, {}, &Candidate::step_s)->step_s;
  return std::ranges::find_if(candidates,
                              [&](const Candidate& candidate) {
                                return candidate.step_s <= fastest_s * (1 + kSameTime);
                              })
      ->bytes;
}

}  // namespace

uint64_t PlaceHostCache(uint64_t bytes, StateLayout& layout, StepProgram& program) {
  std::vector<uint64_t> unit_bytes(layout.units.size());
  for (const StateBlock& block : layout.blocks) {
    if (ConfiguredHome(block, layout.options) == Tier::kNvme)
      unit_bytes[block.unit] += RoundUp(block.size_bytes(), tiering::kSlotAlignmentBytes);
  }
  std::vector<bool> is_cached(layout.units.size());
  uint64_t placed_bytes = 0;
  for (size_t unit = 0; unit < layout.units.size(); ++unit) {
    is_cached[unit] = unit_bytes[unit] > 0 && placed_bytes + unit_bytes[unit] <= bytes;
    if (is_cached[unit]) placed_bytes += unit_bytes[unit];
  }
  for (size_t i = 0; i < layout.blocks.size(); ++i) {
    StateBlock& block = layout.blocks[i];
    block.home = ConfiguredHome(block, layout.options);
    if (block.home == Tier::kNvme && is_cached[block.unit]) block.home = Tier::kHost;
    program.trace.blocks[i].home = block.home;
  }
  return placed_bytes;
}

Result<StepPlan> CompileWithBestHostCache(const HostCacheTrial& trial, StateLayout& layout,
                                          StepProgram& program, uint64_t& placed_bytes) {
  PlaceHostCache(0, layout, program);
  STRATA_ASSIGN_OR_RETURN(StepPlan without, trial.compile());
  std::vector<Candidate> candidates = {
      {.bytes = 0, .step_s = prefetch::Simulate(without, *trial.hardware).step_s}};
  for (uint64_t sixteenths : kCacheSixteenths) {
    uint64_t bytes = PlaceHostCache(trial.budgets.host_bytes / 16 * sixteenths, layout, program);
    if (bytes == candidates.back().bytes) continue;
    Result<StepPlan> plan = prefetch::Compile(
        program.trace, {.budgets = trial.budgets, .prefetch_ops = without.prefetch_ops});
    if (!plan.ok()) break;  // no room is left for what streams
    candidates.push_back(
        {.bytes = bytes, .step_s = prefetch::Simulate(*plan, *trial.hardware).step_s});
  }
  placed_bytes = PlaceHostCache(Choose(candidates), layout, program);
  if (placed_bytes == 0) return without;
  return trial.compile();
}

}  // namespace strata::engine
