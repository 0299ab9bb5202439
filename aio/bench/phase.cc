#include "aio/bench/phase.h"

#include <algorithm>
#include <string>

namespace strata::aio {
namespace {

constexpr double kWarmUpShare = 0.2;  // of a run, on top of it
constexpr Seconds kMaxWarmUp(0.5);

template <typename T, typename Of>
T Sum(const std::vector<WorkloadResult>& runs, Of&& of) {
  T sum = 0;
  for (const WorkloadResult& run : runs) sum += of(run);
  return sum;
}

WorkloadOptions OptionsOfRun(const PhaseOptions& phase, uint32_t run) {
  const Seconds duration = phase.duration / phase.runs;
  const Seconds warm_up = std::min(kMaxWarmUp, kWarmUpShare * duration);
  WorkloadOptions options = {.mix = phase.mix,
                             .order = phase.order,
                             .duration = duration,
                             .warm_up = warm_up,
                             .check = phase.check,
                             .written = phase.written,
                             .seed = run + 1,
                             .stop = phase.stop};
  if (!phase.progress) return options;
  const Seconds later = (duration + warm_up) * (phase.runs - run - 1);
  options.progress = [&phase, run, later](const WorkloadProgress& now) {
    phase.progress({.run = run + 1, .now = now, .left = now.left + later});
  };
  return options;
}

// What was written is read again; the result is only as good as that.
Status CheckWritten(BenchTarget& target, const PhaseOptions& options, PhaseResult& result) {
  if (options.mix.writes > 0) STRATA_RETURN_IF_ERROR(target.SyncAndDropCaches());
  if (options.check == DataCheck::kOff || result.stopped) return OkStatus();
  Status checked =
      options.mix.writes > 0 ? target.CheckAll(options.check_progress, options.stop) : OkStatus();
  if (checked.code() == Code::kCancelled) {
    result.stopped = true;
    return OkStatus();
  }
  result.verified = checked.ok();
  return checked;
}

}  // namespace

Result<PhaseResult> RunPhase(BenchTarget& target, IoEngine& engine, const AioSetting& setting,
                             std::span<std::byte> memory, const PhaseOptions& options) {
  PhaseResult result = {.mix = options.mix, .order = options.order};
  DriveUseMeter drives(target.paths());
  for (uint32_t run = 0; run < options.runs && !result.stopped; ++run) {
    STRATA_RETURN_IF_ERROR(target.SyncAndDropCaches());
    drives.Begin();
    STRATA_ASSIGN_OR_RETURN(WorkloadResult measured, RunWorkload(target, engine, setting, memory,
                                                                 OptionsOfRun(options, run)));
    drives.End();
    result.stopped = measured.stopped;
    if (measured.seconds > 0 && measured.bytes() > 0) result.runs.push_back(std::move(measured));
  }
  result.drives = drives.uses();
  STRATA_RETURN_IF_ERROR(CheckWritten(target, options, result));
  return result;
}

double PhaseResult::seconds() const {
  return Sum<double>(runs, [](const auto& run) { return run.seconds; });
}
uint64_t PhaseResult::bytes_read() const {
  return Sum<uint64_t>(runs, [](const auto& run) { return run.bytes_read; });
}
uint64_t PhaseResult::bytes_written() const {
  return Sum<uint64_t>(runs, [](const auto& run) { return run.bytes_written; });
}
uint64_t PhaseResult::pieces() const {
  return Sum<uint64_t>(runs, [](const auto& run) { return run.pieces; });
}
double PhaseResult::cpu_s() const {
  return Sum<double>(runs, [](const auto& run) { return run.cpu_s; });
}
double PhaseResult::check_cpu_s() const {
  return Sum<double>(runs, [](const auto& run) { return run.check_cpu_s; });
}

double PhaseResult::bytes_per_s() const {
  return seconds() > 0 ? static_cast<double>(bytes()) / seconds() : 0;
}

LatencyHistogram PhaseResult::latency(IoDirection direction) const {
  LatencyHistogram all;
  for (const WorkloadResult& run : runs)
    all.Merge(direction == IoDirection::kRead ? run.read_latency : run.write_latency);
  return all;
}

Spread PhaseResult::spread() const {
  std::vector<double> rates;
  for (const WorkloadResult& run : runs) rates.push_back(run.bytes_per_s());
  return SpreadOf(rates);
}

std::optional<Slowdown> PhaseResult::slowdown() const {
  std::vector<double> rates;
  for (const WorkloadResult& run : runs) {
    for (const Interval& interval : run.intervals) rates.push_back(interval.bytes_per_s());
  }
  return FindSlowdown(rates);
}

std::optional<double> PhaseResult::drives_over_ours(IoDirection direction) const {
  bool is_read = direction == IoDirection::kRead;
  uint64_t ours = Sum<uint64_t>(runs, [is_read](const auto& run) {
    return is_read ? run.total_bytes_read : run.total_bytes_written;
  });
  uint64_t theirs = 0;
  for (const DriveUse& drive : drives) theirs += is_read ? drive.read_bytes : drive.written_bytes;
  if (ours == 0 || drives.empty() || stopped) return std::nullopt;
  return static_cast<double>(theirs) / static_cast<double>(ours);
}

}  // namespace strata::aio
