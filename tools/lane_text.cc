#include "tools/lane_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tools/human.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using prefetch::LaneUse;

constexpr double kWorthNaming = 0.01;  // of the step

std::string Percent(double part, double whole) {
  return fmt::format("{:.0f} %", 100 * part / whole);
}

double StalledSeconds(const LaneUse& use) {
  double seconds = 0;
  for (const auto& [reason, part] : use.stalled_s) seconds += part;
  return seconds;
}

// "compute 32 %, nvme-read 4 %": the longest first.
std::string Reasons(const LaneUse& use, double step_s) {
  std::vector<std::pair<double, std::string>> reasons;
  for (const auto& [reason, seconds] : use.stalled_s) {
    if (seconds >= kWorthNaming * step_s) reasons.emplace_back(seconds, reason);
  }
  std::ranges::sort(reasons, std::ranges::greater());
  std::string text;
  for (const auto& [seconds, reason] : reasons) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason, Percent(seconds, step_s));
  }
  return text;
}

}  // namespace

std::string LaneTable(const std::array<LaneUse, prefetch::kNumLanes>& lanes, double step_s) {
  if (step_s <= 0) return "";
  Table table({{"lane", Align::kLeft},
               {"busy", Align::kRight},
               {"of the step", Align::kRight},
               {"stalled", Align::kRight},
               {"idle", Align::kRight},
               {"stalled on", Align::kLeft}});
  for (size_t lane = 0; lane < prefetch::kNumLanes; ++lane) {
    const LaneUse& use = lanes[lane];
    if (use.busy_s <= 0) continue;
    table.AddRow({std::string(LaneName(prefetch::Lane(lane))),
                  FormatDuration(std::chrono::duration<double>(use.busy_s)),
                  Percent(use.busy_s, step_s), Percent(StalledSeconds(use), step_s),
                  Percent(use.idle_s, step_s), Reasons(use, step_s)});
  }
  return table.ToString();
}

nlohmann::ordered_json LaneJson(const std::array<LaneUse, prefetch::kNumLanes>& lanes) {
  nlohmann::ordered_json json;
  for (size_t lane = 0; lane < prefetch::kNumLanes; ++lane) {
    json[std::string(LaneName(prefetch::Lane(lane)))] = {{"busy_s", lanes[lane].busy_s},
                                                         {"idle_s", lanes[lane].idle_s},
                                                         {"stalled_s", lanes[lane].stalled_s}};
  }
  return json;
}

}  // namespace strata::tools
