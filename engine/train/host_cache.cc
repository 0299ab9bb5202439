#include "engine/train/host_cache.h"

#include <algorithm>
#include <array>
#include <vector>

#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::engine {
namespace {

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

uint64_t PlaceHostCache(uint64_t bytes, StateLayout& layout) {
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
  for (StateBlock& block : layout.blocks) {
    block.home = ConfiguredHome(block, layout.options);
    if (block.home == Tier::kNvme && is_cached[block.unit]) block.home = Tier::kHost;
  }
  return placed_bytes;
}

uint64_t PlaceBestHostCache(uint64_t host_bytes,
                            const std::function<std::optional<double>()>& step_seconds,
                            StateLayout& layout) {
  PlaceHostCache(0, layout);
  std::optional<double> without = step_seconds();
  if (!without) return 0;
  std::vector<Candidate> candidates = {{.bytes = 0, .step_s = *without}};
  for (uint64_t sixteenths : kCacheSixteenths) {
    uint64_t bytes = PlaceHostCache(host_bytes / 16 * sixteenths, layout);
    if (bytes == candidates.back().bytes) continue;
    std::optional<double> with = step_seconds();
    if (!with) break;  // no room is left for what streams
    candidates.push_back({.bytes = bytes, .step_s = *with});
  }
  return PlaceHostCache(Choose(candidates), layout);
}

}  // namespace strata::engine
