#include "engine/train/step_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace strata::engine {

using prefetch::Lane;
using prefetch::LaneUse;

double StepReport::stall_fraction() const {
  const LaneUse& compute = lanes[static_cast<size_t>(Lane::kCompute)];
  double stalled = 0;
  for (const auto& [reason, seconds] : compute.stalled_s) stalled += seconds;
  return step_s > 0 ? stalled / step_s : 0;
}

double StepReport::bytes_per_s(Lane lane) const {
  return static_cast<double>(lanes[static_cast<size_t>(lane)].bytes) / seconds();
}

std::string ToJson(const StepReport& report) {
  nlohmann::ordered_json json;
  json["step"] = report.step;
  json["loss"] = report.loss;
  json["lr"] = report.learning_rate;
  json["grad_norm"] = report.gradient_norm;
  json["clipped"] = report.clipped;
  if (report.loss_scale) {
    json["loss_scale"] = *report.loss_scale;
    json["skipped"] = report.skipped;
  }
  json["update"] = StepKindName(report.kind);
  json["rolled_back"] = report.rolled_back;
  json["tokens"] = report.tokens;
  json["tokens_per_s"] = report.tokens_per_s();
  json["step_s"] = report.step_s;
  json["commit_s"] = report.commit_s;
  json["checkpoint_wait_s"] = report.checkpoint_wait_s;
  json["checkpoint_bytes_written"] = report.checkpoint_bytes_written;
  json["change_s"] = report.change_s;
  json["predicted_step_s"] = report.predicted_step_s;
  json["bound_s"] = report.bound_s;
  json["nvme_bytes_read"] = report.nvme_bytes_read;
  json["nvme_bytes_written"] = report.nvme_bytes_written;
  json["comm_bytes_sent"] = report.comm_bytes_sent;
  json["comm_bytes_received"] = report.comm_bytes_received;
  for (size_t lane = 0; lane < prefetch::kNumLanes; ++lane) {
    const LaneUse& use = report.lanes[lane];
    nlohmann::ordered_json entry;
    entry["bytes"] = use.bytes;
    entry["busy_s"] = use.busy_s;
    entry["idle_s"] = use.idle_s;
    for (const auto& [reason, seconds] : use.stalled_s) entry["stalled_s"][reason] = seconds;
    json["lanes"][std::string(prefetch::LaneName(Lane(lane)))] = std::move(entry);
  }
  return json.dump();
}

}  // namespace strata::engine
