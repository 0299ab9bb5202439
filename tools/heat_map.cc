#include "tools/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>

#include "aio/base/units.h"

namespace strata::tools {
namespace {

constexpr std::array<double, kHeatLevels> kLeastShare = {0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98};
// From a dark violet over green to a bright yellow, so that it reads without seeing red or green.
constexpr std::array<int, kHeatLevels> kBackground = {53, 54, 61, 31, 36, 71, 149, 226};
constexpr std::array<int, kHeatLevels> kForeground = {255, 255, 255, 255, 16, 16, 16, 16};
constexpr std::array<std::string_view, kHeatLevels> kShade = {" ", " ", " ", "░",
                                                              "░", "▒", "▓", "█"};

constexpr size_t kLabelWidth = 8;
constexpr size_t kCellWidth = 5;
constexpr size_t kGap = 2;  // between maps

bool IsMeasured(const aio::TuneCandidate& candidate, size_t traffic) {
  return candidate.traffics[traffic].num_samples > 0;
}

struct Axes {
  std::set<uint64_t> block_sizes_bytes;
  std::set<uint32_t> queue_depths;
  std::vector<std::string> engines;  // in the order of the candidates
};

Axes AxesOf(const aio::TuneReport& report) {
  Axes axes;
  for (const aio::TuneCandidate& candidate : report.candidates) {
    bool is_measured = false;
    for (size_t t = 0; t < report.traffics.size(); ++t) is_measured |= IsMeasured(candidate, t);
    if (!is_measured) continue;
    axes.block_sizes_bytes.insert(candidate.setting.block_size_bytes);
    axes.queue_depths.insert(candidate.setting.queue_depth);
    std::string engine = EngineName(candidate.setting);
    if (std::find(axes.engines.begin(), axes.engines.end(), engine) == axes.engines.end())
      axes.engines.push_back(engine);
  }
  return axes;
}

template <typename T>
size_t IndexOf(const std::vector<T>& values, T value) {
  return static_cast<size_t>(std::find(values.begin(), values.end(), value) - values.begin());
}

void Place(HeatMap& map, const HeatCell& cell) {
  size_t row = IndexOf(map.block_sizes_bytes, cell.setting.block_size_bytes);
  size_t column = IndexOf(map.queue_depths, cell.setting.queue_depth);
  std::optional<HeatCell>& at = map.cells[row * map.queue_depths.size() + column];
  bool is_faster = !at || cell.result.median_bytes_per_s > at->result.median_bytes_per_s;
  if (cell.is_winner || (is_faster && !(at && at->is_winner))) at = cell;
}

HeatMap MapOf(const aio::TuneReport& report, size_t traffic, const std::string& engine,
              const Axes& axes) {
  HeatMap map;
  map.traffic = report.traffics[traffic];
  map.engine = engine;
  map.block_sizes_bytes.assign(axes.block_sizes_bytes.begin(), axes.block_sizes_bytes.end());
  map.queue_depths.assign(axes.queue_depths.begin(), axes.queue_depths.end());
  map.cells.resize(map.block_sizes_bytes.size() * map.queue_depths.size());
  for (size_t i = 0; i < report.candidates.size(); ++i) {
    const aio::TuneCandidate& candidate = report.candidates[i];
    if (!IsMeasured(candidate, traffic)) continue;
    const aio::TrafficResult& result = candidate.traffics[traffic];
    map.best_bytes_per_s = std::max(map.best_bytes_per_s, result.median_bytes_per_s);
    if (EngineName(candidate.setting) == engine)
      Place(map, {.setting = candidate.setting, .result = result, .is_winner = i == report.winner});
  }
  return map;
}

std::string Cell(const HeatMap& map, const std::optional<HeatCell>& cell, Colour colour) {
  if (!cell) return std::string(kCellWidth, ' ');
  size_t level = HeatLevel(map.ShareOfBest(*cell));
  std::string number = GigabytesPerSecond(cell->result.median_bytes_per_s);
  if (colour == Colour::kNone)
    return fmt::format("{}{:>4}", cell->is_winner ? "*" : kShade[level], number);
  return fmt::format("\x1b[48;5;{};38;5;{}m{}{:>4}\x1b[0m", kBackground[level], kForeground[level],
                     cell->is_winner ? "*" : " ", number);
}

// A title may be wider than a map of few columns.
size_t WidthOfMap(const HeatMap& map) {
  return std::max(map.queue_depths.size() * kCellWidth, TrafficName(map.traffic).size());
}

// Row by row; the first two are the title and the depths. All are WidthOfMap() wide.
std::string RowOf(const HeatMap& map, size_t row, Colour colour) {
  if (row == 0) return fmt::format("{:<{}}", TrafficName(map.traffic), WidthOfMap(map));
  std::string line;
  for (size_t column = 0; column < map.queue_depths.size(); ++column)
    line += row == 1 ? fmt::format("{:>{}}", map.queue_depths[column], kCellWidth)
                     : Cell(map, map.at(row - 2, column), colour);
  return line + std::string(WidthOfMap(map) - map.queue_depths.size() * kCellWidth, ' ');
}

std::string LabelOf(const HeatMap& map, size_t row) {
  return fmt::format("{:>{}}", row < 2 ? "" : FormatBytes(map.block_sizes_bytes[row - 2]),
                     kLabelWidth);
}

std::string SideBySide(std::span<const HeatMap> maps, Colour colour) {
  std::string text;
  for (size_t row = 0; row < maps[0].block_sizes_bytes.size() + 2; ++row) {
    std::string line = LabelOf(maps[0], row);
    for (const HeatMap& map : maps)
      line += std::string(&map == &maps[0] ? 1 : kGap, ' ') + RowOf(map, row, colour);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace

std::string GigabytesPerSecond(double bytes_per_s) {
  double value = bytes_per_s / 1e9;
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

size_t HeatLevel(double share_of_best) {
  size_t level = kHeatLevels - 1;
  while (level > 0 && share_of_best < kLeastShare[level]) --level;
  return level;
}

std::string HeatLevelName(size_t level) {
  return level == 0 ? fmt::format("under {:.0f} %", 100 * kLeastShare[1])
                    : fmt::format("{:.0f} %", 100 * kLeastShare[level]);
}

std::vector<HeatMap> HeatMapsOf(const aio::TuneReport& report) {
  Axes axes = AxesOf(report);
  std::vector<HeatMap> maps;
  for (const std::string& engine : axes.engines)
    for (size_t traffic = 0; traffic < report.traffics.size(); ++traffic) {
      HeatMap map = MapOf(report, traffic, engine, axes);
      bool has_cells = std::any_of(map.cells.begin(), map.cells.end(),
                                   [](const auto& cell) { return cell.has_value(); });
      if (has_cells) maps.push_back(std::move(map));
    }
  return maps;
}

std::string DrawHeatMaps(const std::vector<HeatMap>& maps, Colour colour, size_t width) {
  std::string text;
  for (size_t first = 0, next = 0; first < maps.size(); first = next) {
    size_t taken = kLabelWidth + 1 + WidthOfMap(maps[first]);
    for (next = first + 1; next < maps.size() && maps[next].engine == maps[first].engine; ++next) {
      taken += kGap + WidthOfMap(maps[next]);
      if (taken > width) break;
    }
    text += fmt::format("{}{}: GB/s, a row per block size, a column per queue depth\n",
                        first == 0 ? "" : "\n", maps[first].engine);
    text += SideBySide(std::span(maps).subspan(first, next - first), colour);
  }
  return text;
}

std::string HeatLegend(Colour colour) {
  std::string line = "of the best, at least: ";
  std::string_view shown;
  for (size_t level = 0; level < kHeatLevels; ++level) {
    std::string name = HeatLevelName(level);
    if (colour == Colour::kAnsi) {
      line += fmt::format("\x1b[48;5;{};38;5;{}m {} \x1b[0m", kBackground[level],
                          kForeground[level], name);
    } else if (kShade[level] != " " && kShade[level] != shown) {
      shown = kShade[level];
      line += fmt::format("{} {}  ", shown, name);
    }
  }
  return line + (colour == Colour::kAnsi ? " " : "") + "* the winner\n";
}

}  // namespace strata::tools
