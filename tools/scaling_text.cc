#include "tools/scaling_text.h"

#include <fmt/format.h>

#include "aio/base/units.h"
#include "tools/cluster_text.h"
#include "tools/human.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using engine::ScalingPoint;

constexpr double kTera = 1e12;

std::vector<std::string> CellsOf(const ScalingPoint& point) {
  const engine::PlanOutcome& outcome = point.outcome;
  std::vector<std::string> cells = {
      fmt::format("{}", point.num_gpus()), fmt::format("{} x {}", point.nodes, point.gpus_per_node),
      FormatBytes(outcome.device_bytes),   FormatBytes(outcome.host_bytes),
      FormatBytes(outcome.nvme_bytes),     FitsText(outcome)};
  if (!outcome.fits_memory()) {
    cells.resize(12, "-");
    return cells;
  }
  cells.insert(
      cells.end(),
      {FormatBytes(outcome.nvme_bytes_read), FormatBytes(outcome.nvme_bytes_written),
       FormatBytes(outcome.comm_bytes_sent),
       FormatDuration(std::chrono::duration<double>(outcome.step_s)),
       fmt::format("{:.1f}", point.flops_per_s_and_gpu() / kTera), outcome.bound_resource});
  return cells;
}

}  // namespace

std::string ScalingTable(const std::vector<ScalingPoint>& points) {
  Table table({{"gpus", Align::kRight},
               {"nodes", Align::kRight},
               {"gpu", Align::kRight},
               {"host", Align::kRight},
               {"store", Align::kRight},
               {"fits", Align::kLeft},
               {"read", Align::kRight},
               {"written", Align::kRight},
               {"sent", Align::kRight},
               {"step", Align::kRight},
               {"TFLOP/s", Align::kRight},
               {"bound by", Align::kLeft}});
  for (const ScalingPoint& point : points) table.AddRow(CellsOf(point));
  return table.ToString() +
         "of one rank: memory, the store on its drives, bytes of nvme read and written in a step, "
         "bytes sent to\nother ranks and got from them, TFLOP/s at 8 flop per parameter and token; "
         "each GPU has the same batch\n";
}

nlohmann::ordered_json ToJson(const std::vector<ScalingPoint>& points) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const ScalingPoint& point : points) {
    nlohmann::ordered_json entry = {{"gpus", point.num_gpus()},
                                    {"nodes", point.nodes},
                                    {"gpus_per_node", point.gpus_per_node},
                                    {"tokens", point.tokens}};
    entry.update(ToJson(point.outcome));
    if (point.outcome.fits_memory()) entry["flops_per_s_and_gpu"] = point.flops_per_s_and_gpu();
    json.push_back(std::move(entry));
  }
  return json;
}

}  // namespace strata::tools
