#include "tools/io_bench_text.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "aio/base/units.h"
#include "tools/human.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using aio::IoDirection;
using aio::LatencyHistogram;
using aio::PhaseResult;
using Json = nlohmann::ordered_json;

constexpr double kGb = 1e9;
constexpr double kGib = 1024.0 * 1024 * 1024;
constexpr double kAgreement = 0.02;  // more than this between a drive's count and ours is told

std::string NameOf(const PhaseResult& phase) {
  std::string name = aio::DescribeMix(phase.mix);
  return phase.order == aio::AccessOrder::kRandom ? name + ", random" : name;
}

bool IsMixed(const PhaseResult& phase) { return phase.mix.reads > 0 && phase.mix.writes > 0; }

double PerSecond(double count, const PhaseResult& phase) {
  return phase.seconds() > 0 ? count / phase.seconds() : 0;
}

double CpuPerGb(const PhaseResult& phase) {
  return phase.bytes() > 0 ? phase.cpu_s() / (static_cast<double>(phase.bytes()) / kGb) : 0;
}

std::string Latency(const LatencyHistogram& histogram, double quantile) {
  return FormatDuration(histogram.Quantile(quantile));
}

void AddLatencies(const LatencyHistogram& histogram, Table::Row& row) {
  for (double quantile : {0.5, 0.99, 0.999, 1.0}) row.push_back(Latency(histogram, quantile));
}

void AddRates(double bytes, const PhaseResult& phase, Table::Row& row) {
  row.push_back(fmt::format("{:.2f}", PerSecond(bytes, phase) / kGb));
  row.push_back(fmt::format("{:.2f}", PerSecond(bytes, phase) / kGib));
}

std::string SpreadText(const PhaseResult& phase) {
  aio::Spread spread = phase.spread();
  if (phase.runs.size() < 2) return "one run";
  return fmt::format("{:.2f}-{:.2f} ({:.1f} %)", spread.min / kGb, spread.max / kGb,
                     100 * spread.variation);
}

void AddDirection(const PhaseResult& phase, IoDirection direction, Table& table) {
  bool is_read = direction == IoDirection::kRead;
  Table::Row row = {is_read ? "  its reads" : "  its writes"};
  AddRates(static_cast<double>(is_read ? phase.bytes_read() : phase.bytes_written()), phase, row);
  LatencyHistogram latency = phase.latency(direction);
  row.push_back(FormatCount(PerSecond(static_cast<double>(latency.count()), phase)));
  AddLatencies(latency, row);
  row.insert(row.end(), {"", ""});
  table.AddRow(std::move(row));
}

void AddPhase(const PhaseResult& phase, Table& table) {
  Table::Row row = {NameOf(phase)};
  AddRates(static_cast<double>(phase.bytes()), phase, row);
  LatencyHistogram latency = phase.latency(IoDirection::kRead);
  latency.Merge(phase.latency(IoDirection::kWrite));
  row.push_back(FormatCount(PerSecond(static_cast<double>(latency.count()), phase)));
  if (IsMixed(phase)) {
    row.insert(row.end(), {"", "", "", ""});
  } else {
    AddLatencies(latency, row);
  }
  row.push_back(fmt::format("{:.4f}", CpuPerGb(phase)));
  row.push_back(SpreadText(phase));
  table.AddRow(std::move(row));
  if (!IsMixed(phase)) return;
  AddDirection(phase, IoDirection::kRead, table);
  AddDirection(phase, IoDirection::kWrite, table);
}

std::string TargetText(const BenchReport& report) {
  std::string text;
  for (const aio::TargetPath& path : report.paths) {
    text += fmt::format("{}: {} of {}", path.path, FormatBytes(path.size_bytes),
                        aio::TargetKindName(path.kind));
    if (report.paths.size() > 1) text += fmt::format(", {:.0f} % of the stripes", 100 * path.share);
    if (path.read_bytes_per_s > 0)
      text += fmt::format(" (alone it reads {:.2f} GB/s)", path.read_bytes_per_s / kGb);
    text += "\n";
  }
  std::string engine = report.engine;
  if (report.sqpoll) engine += ", sqpoll";
  if (report.iopoll) engine += ", iopoll";
  if (report.registered_files) engine += ", registered files";
  if (report.repeats_data) engine += ", the same data written again";
  return text + fmt::format("{}, blocks of {}, queue depth {}, {} thread{}\n", engine,
                            FormatBytes(report.block_size_bytes), report.queue_depth,
                            report.thread_count, report.thread_count == 1 ? "" : "s");
}

std::string MemoryNote(const BenchReport& report) {
  if (report.huge_bytes == report.memory_bytes)
    return fmt::format("buffers: {} on huge pages", FormatBytes(report.memory_bytes));
  return fmt::format(
      "buffers: {} of {} on huge pages; without them direct I/O is slower "
      "('strata io check' says how to get them)",
      FormatBytes(report.huge_bytes), FormatBytes(report.memory_bytes));
}

void NoteDrive(const PhaseResult& phase, IoDirection direction, std::vector<std::string>& notes) {
  std::optional<double> ratio = phase.drives_over_ours(direction);
  if (!ratio) return;
  const char* what = direction == IoDirection::kRead ? "read" : "written";
  std::string note =
      fmt::format("{}: the drive counted {:.4f} x the bytes {}", NameOf(phase), *ratio, what);
  if (std::abs(*ratio - 1) > kAgreement) note += ": something else uses it, or stands in between";
  notes.push_back(std::move(note));
}

void NotePhase(const PhaseResult& phase, std::vector<std::string>& notes) {
  NoteDrive(phase, IoDirection::kRead, notes);
  NoteDrive(phase, IoDirection::kWrite, notes);
  if (std::optional<aio::Slowdown> slowdown = phase.slowdown())
    notes.push_back(
        fmt::format("{}: slowed down from {:.2f} to {:.2f} GB/s while it was measured: "
                    "the drive throttles, or its fast cache is full",
                    NameOf(phase), slowdown->first_third / kGb, slowdown->last_third / kGb));
  if (phase.verified)
    notes.push_back(fmt::format(
        "{}: verified; making and checking the data took {:.3f} of the CPU s/GB", NameOf(phase),
        phase.check_cpu_s() / (static_cast<double>(phase.bytes()) / kGb)));
}

Json LatencyJson(const LatencyHistogram& histogram) {
  auto us = [&histogram](double quantile) {
    return static_cast<double>(histogram.Quantile(quantile).count()) / 1e3;
  };
  return {{"p50_us", us(0.5)}, {"p99_us", us(0.99)}, {"p999_us", us(0.999)}, {"max_us", us(1)}};
}

Json DirectionJson(const PhaseResult& phase, IoDirection direction) {
  uint64_t bytes = direction == IoDirection::kRead ? phase.bytes_read() : phase.bytes_written();
  LatencyHistogram latency = phase.latency(direction);
  std::optional<double> ratio = phase.drives_over_ours(direction);
  return {{"bytes", bytes},
          {"gb_per_s", PerSecond(static_cast<double>(bytes), phase) / kGb},
          {"gib_per_s", PerSecond(static_cast<double>(bytes), phase) / kGib},
          {"iops", PerSecond(static_cast<double>(latency.count()), phase)},
          {"latency", LatencyJson(latency)},
          {"drive_bytes_over_ours", ratio ? Json(*ratio) : Json()}};
}

Json RunJson(const aio::WorkloadResult& run) {
  Json intervals = Json::array();
  for (const aio::Interval& interval : run.intervals)
    intervals.push_back(
        {{"seconds", interval.seconds}, {"gb_per_s", interval.bytes_per_s() / kGb}});
  return {{"seconds", run.seconds},
          {"bytes_read", run.bytes_read},
          {"bytes_written", run.bytes_written},
          {"gb_per_s", run.bytes_per_s() / kGb},
          {"cpu_s", run.cpu_s},
          {"retries", run.retries},
          {"short_transfers", run.short_transfers},
          {"intervals", intervals}};
}

Json DrivesJson(const PhaseResult& phase) {
  Json drives = Json::array();
  for (const aio::DriveUse& drive : phase.drives)
    drives.push_back({{"name", drive.name},
                      {"bytes_read", drive.read_bytes},
                      {"bytes_written", drive.written_bytes}});
  return drives;
}

Json SpreadJson(const PhaseResult& phase) {
  aio::Spread spread = phase.spread();
  return {{"min_gb_per_s", spread.min / kGb},
          {"max_gb_per_s", spread.max / kGb},
          {"coefficient_of_variation", spread.variation}};
}

Json PhaseJson(const PhaseResult& phase) {
  Json runs = Json::array();
  for (const aio::WorkloadResult& run : phase.runs) runs.push_back(RunJson(run));
  std::optional<aio::Slowdown> slowdown = phase.slowdown();
  double bytes = static_cast<double>(phase.bytes());
  return {{"phase", aio::DescribeMix(phase.mix)},
          {"order", phase.order == aio::AccessOrder::kRandom ? "random" : "sequential"},
          {"seconds", phase.seconds()},
          {"bytes", phase.bytes()},
          {"gb_per_s", PerSecond(bytes, phase) / kGb},
          {"gib_per_s", PerSecond(bytes, phase) / kGib},
          {"read", DirectionJson(phase, IoDirection::kRead)},
          {"write", DirectionJson(phase, IoDirection::kWrite)},
          {"cpu_s", phase.cpu_s()},
          {"cpu_s_per_gb", CpuPerGb(phase)},
          {"check_cpu_s", phase.check_cpu_s()},
          {"verified", phase.verified},
          {"spread", SpreadJson(phase)},
          {"throttling", slowdown.has_value()},
          {"drives", DrivesJson(phase)},
          {"runs", runs},
          {"partial", phase.stopped}};
}

Json PathJson(const aio::TargetPath& path) {
  return {{"path", path.path},
          {"kind", aio::TargetKindName(path.kind)},
          {"size_bytes", path.size_bytes},
          {"share", path.share},
          {"direct_io", path.direct},
          {"alone_read_gb_per_s",
           path.read_bytes_per_s > 0 ? Json(path.read_bytes_per_s / kGb) : Json()}};
}

}  // namespace

std::string DescribeBench(const BenchReport& report) {
  std::vector<Column> columns = {{"traffic"}};
  for (const char* header :
       {"GB/s", "GiB/s", "IOPS", "p50", "p99", "p99.9", "max", "CPU s/GB", "runs, GB/s"})
    columns.push_back({header, Align::kRight});
  Table table(std::move(columns));
  std::vector<std::string> notes = {MemoryNote(report)};
  notes.insert(notes.end(), report.notes.begin(), report.notes.end());
  for (const PhaseResult& phase : report.phases) {
    AddPhase(phase, table);
    NotePhase(phase, notes);
  }
  std::string text = TargetText(report) + "\n" + table.ToString() + "\n";
  for (const std::string& note : notes) text += "- " + note + "\n";
  if (report.partial) text += "interrupted: these figures are partial\n";
  return text;
}

std::string BenchToJson(const BenchReport& report) {
  Json paths = Json::array(), phases = Json::array();
  for (const aio::TargetPath& path : report.paths) paths.push_back(PathJson(path));
  for (const PhaseResult& phase : report.phases) phases.push_back(PhaseJson(phase));
  Json json = {{"engine", report.engine},
               {"block_size_bytes", report.block_size_bytes},
               {"queue_depth", report.queue_depth},
               {"thread_count", report.thread_count},
               {"sqpoll", report.sqpoll},
               {"iopoll", report.iopoll},
               {"registered_files", report.registered_files},
               {"repeats_data", report.repeats_data},
               {"device", "cpu"},
               {"memory_bytes", report.memory_bytes},
               {"huge_page_bytes", report.huge_bytes},
               {"size_bytes", report.size_bytes},
               {"paths", paths},
               {"phases", phases},
               {"notes", report.notes},
               {"partial", report.partial}};
  // A path need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace strata::tools
