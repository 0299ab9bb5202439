#include "tools/tune_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "aio/base/units.h"
#include "tools/heat_map.h"
#include "tools/human.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using aio::Fate;
using aio::TrafficResult;
using aio::TuneCandidate;
using aio::TuneReport;

constexpr size_t kRowsInTerminal = 12;

// "3.52 (3.41 to 3.60)".
std::string WithInterval(const TrafficResult& result) {
  return fmt::format("{} ({} to {})", GigabytesPerSecond(result.median_bytes_per_s),
                     GigabytesPerSecond(result.low_bytes_per_s),
                     GigabytesPerSecond(result.high_bytes_per_s));
}

std::string CpuPerGigabyte(double cpu_s_per_byte) {
  return FormatDuration(std::chrono::duration<double>(cpu_s_per_byte * 1e9));
}

std::string DescribeWinner(const TuneReport& report) {
  if (!report.winner) return "no setting was measured\n";
  const TuneCandidate& winner = report.candidates[*report.winner];
  std::string text = fmt::format("winner: {}\n", DescribeSetting(winner.setting));
  for (size_t t = 0; t < report.traffics.size(); ++t)
    text += fmt::format("  {:<5} {} GB/s\n", TrafficName(report.traffics[t]),
                        WithInterval(winner.traffics[t]));
  return text + fmt::format("  {} of CPU per GB, {} in flight\n",
                            CpuPerGigabyte(winner.cpu_s_per_byte),
                            FormatBytes(winner.setting.in_flight_bytes()));
}

std::string DescribeBestOfTraffics(const TuneReport& report) {
  std::string text;
  for (size_t t = 0; t < report.traffics.size(); ++t) {
    std::optional<size_t> best = report.best_of_traffic[t];
    if (!best || best == report.winner) continue;
    const TuneCandidate& candidate = report.candidates[*best];
    text += fmt::format("{} alone: {}, {} GB/s\n", TrafficName(report.traffics[t]),
                        DescribeSetting(candidate.setting), WithInterval(candidate.traffics[t]));
  }
  return text;
}

size_t NumMeasured(const TuneReport& report) {
  return static_cast<size_t>(std::count_if(report.candidates.begin(), report.candidates.end(),
                                           [](const auto& each) { return each.speed > 0; }));
}

std::string DescribeSearch(const TuneReport& report) {
  return fmt::format("{}{} of {} settings measured in {}: {} rounds, {} measurements of {}\n",
                     report.cancelled ? "cancelled; this is what was known by then. " : "",
                     NumMeasured(report), report.candidates.size(), FormatDuration(report.used),
                     report.rounds, report.measurements, FormatDuration(report.sample));
}

// The fastest first, and of them only those that say something about the winner.
std::vector<const TuneCandidate*> TopCandidates(const TuneReport& report) {
  std::vector<const TuneCandidate*> top;
  for (const TuneCandidate& candidate : report.candidates)
    if (candidate.speed > 0 && candidate.fate != Fate::kFailed) top.push_back(&candidate);
  auto is_better = [](const TuneCandidate* a, const TuneCandidate* b) {
    bool a_wins = a->fate == Fate::kWinner, b_wins = b->fate == Fate::kWinner;
    return a_wins != b_wins ? a_wins : a->speed > b->speed;
  };
  std::stable_sort(top.begin(), top.end(), is_better);
  top.resize(std::min(top.size(), kRowsInTerminal));
  return top;
}

std::string CandidatesTable(const TuneReport& report) {
  std::vector<Column> columns = {{"setting"}, {"speed", Align::kRight}, {"95 %"}};
  for (aio::Traffic traffic : report.traffics)
    columns.push_back({std::string(TrafficName(traffic)), Align::kRight});
  columns.insert(columns.end(),
                 {{"CPU/GB", Align::kRight}, {"runs", Align::kRight}, {"outcome", Align::kLeft}});
  Table table(columns);
  for (const TuneCandidate* candidate : TopCandidates(report)) {
    Table::Row row = {DescribeSetting(candidate->setting), fmt::format("{:.3f}", candidate->speed),
                      fmt::format("{:.2f} to {:.2f}", candidate->low_speed, candidate->high_speed)};
    for (const TrafficResult& result : candidate->traffics)
      row.push_back(GigabytesPerSecond(result.median_bytes_per_s));
    row.push_back(CpuPerGigabyte(candidate->cpu_s_per_byte));
    row.push_back(fmt::format("{}", candidate->traffics[0].num_samples));
    row.push_back(fmt::format("{}, round {}", FateName(candidate->fate), candidate->round));
    table.AddRow(std::move(row));
  }
  return table.ToString();
}

// "12 settings failed: unavailable: libaio: ...", a line per reason.
std::string DescribeFailures(const TuneReport& report) {
  std::map<std::string, std::vector<const TuneCandidate*>> by_reason;
  for (const TuneCandidate& candidate : report.candidates)
    if (candidate.fate == Fate::kFailed) by_reason[candidate.why].push_back(&candidate);
  std::string text;
  for (const auto& [reason, failed] : by_reason) {
    std::string who = DescribeSetting(failed[0]->setting);
    if (failed.size() > 1) who += fmt::format(" and {} more", failed.size() - 1);
    text += fmt::format("failed: {}: {}\n", who, reason);
  }
  return text;
}

nlohmann::ordered_json ToJson(const aio::AioSetting& setting) {
  return {{"backend", IoBackendName(setting.backend)},
          {"block_size_bytes", setting.block_size_bytes},
          {"queue_depth", setting.queue_depth},
          {"thread_count", setting.thread_count},
          {"sqpoll", setting.sqpoll}};
}

nlohmann::ordered_json ToJson(const TrafficResult& result) {
  return {{"num_samples", result.num_samples},
          {"median_bytes_per_s", result.median_bytes_per_s},
          {"mean_bytes_per_s", result.mean_bytes_per_s},
          {"low_bytes_per_s", result.low_bytes_per_s},
          {"high_bytes_per_s", result.high_bytes_per_s},
          {"cpu_s_per_byte", result.cpu_s_per_byte}};
}

nlohmann::ordered_json ToJson(const TuneCandidate& candidate,
                              const std::vector<aio::Traffic>& traffics) {
  nlohmann::ordered_json json = {{"setting", ToJson(candidate.setting)},
                                 {"fate", FateName(candidate.fate)},
                                 {"round", candidate.round},
                                 {"why", candidate.why},
                                 {"speed", candidate.speed},
                                 {"low_speed", candidate.low_speed},
                                 {"high_speed", candidate.high_speed},
                                 {"cpu_s_per_byte", candidate.cpu_s_per_byte}};
  for (size_t t = 0; t < traffics.size(); ++t)
    if (candidate.traffics[t].num_samples > 0)
      json["traffics"][std::string(TrafficName(traffics[t]))] = ToJson(candidate.traffics[t]);
  return json;
}

// Paths may be any bytes; JSON may not.
std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

std::string DescribeTuneReport(const TuneReport& report, Colour colour, size_t width) {
  std::string text = DescribeWinner(report) + DescribeBestOfTraffics(report) +
                     DescribeSearch(report) + DescribeFailures(report);
  if (NumMeasured(report) == 0) return text;
  text += "\n" + CandidatesTable(report);
  text += "speed: of training traffic, 1 = the best in reading, writing and both at once\n";
  return text + "\n" + DrawHeatMaps(HeatMapsOf(report), colour, width) + HeatLegend(colour);
}

std::string TuneReportToJson(const TuneReport& report) {
  nlohmann::ordered_json json = {{"winner", nullptr},
                                 {"cancelled", report.cancelled},
                                 {"budget_s", report.budget.count()},
                                 {"used_s", report.used.count()},
                                 {"sample_s", report.sample.count()},
                                 {"rounds", report.rounds},
                                 {"measurements", report.measurements},
                                 {"seed", report.seed},
                                 {"interval", "95 % of the median of log throughput"}};
  if (report.winner) json["winner"] = ToJson(report.candidates[*report.winner], report.traffics);
  for (size_t t = 0; t < report.traffics.size(); ++t)
    if (std::optional<size_t> best = report.best_of_traffic[t])
      json["best_of_traffic"][std::string(TrafficName(report.traffics[t]))] =
          ToJson(report.candidates[*best].setting);
  json["candidates"] = nlohmann::ordered_json::array();
  for (const TuneCandidate& candidate : report.candidates)
    json["candidates"].push_back(ToJson(candidate, report.traffics));
  return Dump(json);
}

std::string DeepSpeedAio(const aio::AioSetting& setting) {
  nlohmann::ordered_json json = {{"aio",
                                  {{"block_size", setting.block_size_bytes},
                                   {"queue_depth", setting.queue_depth},
                                   {"intra_op_parallelism", setting.thread_count},
                                   {"single_submit", false},
                                   {"overlap_events", true}}}};
  return Dump(json);
}

}  // namespace strata::tools
