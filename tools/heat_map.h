// Bandwidth over block size and queue depth, as a map for a terminal or a page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/bench/tune.h"
#include "tools/terminal.h"

namespace strata::tools {

struct HeatCell {
  aio::AioSetting setting;
  aio::TrafficResult result;
  bool is_winner = false;
};

// One kind of traffic with one engine.
struct HeatMap {
  aio::Traffic traffic = aio::Traffic::kRead;
  std::string engine;  // "io_uring+sqpoll"
  std::vector<uint64_t> block_sizes_bytes;
  std::vector<uint32_t> queue_depths;
  // Row by row, a row per block size. Of several thread counts the fastest, or the winner. Empty
  // where nothing was measured.
  std::vector<std::optional<HeatCell>> cells;
  double best_bytes_per_s = 0;  // of this traffic, with any engine

  const std::optional<HeatCell>& at(size_t row, size_t column) const {
    return cells[row * queue_depths.size() + column];
  }
  double ShareOfBest(const HeatCell& cell) const {
    return cell.result.median_bytes_per_s / best_bytes_per_s;
  }
};

// Those with anything measured: engine by engine, in each traffic by traffic. All have the same
// rows and columns: the block sizes and depths that were measured at all.
std::vector<HeatMap> HeatMapsOf(const aio::TuneReport& report);

// How close to the best, in steps that are narrower near the top, where it matters: 0 to
// kHeatLevels - 1, the last one from 98 % of the best.
inline constexpr size_t kHeatLevels = 8;
size_t HeatLevel(double share_of_best);
// "under 25 %", "25 %", ... "98 %": the least share of each level.
std::string HeatLevelName(size_t level);

// Those of one engine stand side by side as far as `width` reaches. Numbers are GB/s, behind a
// shade where there is no colour, and behind "*" for the winner.
std::string DrawHeatMaps(const std::vector<HeatMap>& maps, Colour colour, size_t width);
// One line that explains the shades.
std::string HeatLegend(Colour colour);

// "3.52", "35.2", "352" GB/s.
std::string GigabytesPerSecond(double bytes_per_s);

}  // namespace strata::tools
