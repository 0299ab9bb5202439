#include "aio/bench/internal/stopwatch.h"

#include <algorithm>

#include "aio/bench/internal/usage.h"

namespace strata::aio {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kInterval(100);
constexpr int kMinIntervals = 10;

Clock::duration ToClock(Seconds seconds) {
  return std::chrono::duration_cast<Clock::duration>(seconds);
}

uint64_t BytesOf(const IoCounters& counters) {
  return counters.bytes_read + counters.bytes_written;
}

}  // namespace

Stopwatch::Stopwatch(const IoEngine& engine, const WorkloadOptions& options)
    : engine_(engine),
      options_(options),
      start_(Clock::now()),
      start_counters_(engine.counters()),
      interval_(std::min<Clock::duration>(kInterval, ToClock(options.duration) / kMinIntervals)),
      interval_begin_(start_),
      interval_begin_bytes_(BytesOf(start_counters_)) {
  if (options.warm_up <= Seconds(0)) BeginMeasuring();
}

Stopwatch::Reading Stopwatch::Read() const {
  return {.at = Clock::now(),
          .counters = engine_.counters(),
          .read_latency = engine_.latency(IoDirection::kRead),
          .write_latency = engine_.latency(IoDirection::kWrite),
          .cpu_s = ProcessCpuSeconds(),
          .check_cpu_s = check_cpu_s_};
}

void Stopwatch::BeginMeasuring() {
  phase_ = Phase::kMeasuring;
  begin_ = Read();
  interval_begin_ = begin_.at;
  interval_begin_bytes_ = BytesOf(begin_.counters);
}

bool Stopwatch::Tick() {
  if (phase_ == Phase::kOver) return false;
  Clock::time_point now = Clock::now();
  bool warming_up = phase_ == Phase::kWarmUp;
  Clock::time_point end =
      warming_up ? start_ + ToClock(options_.warm_up) : begin_.at + ToClock(options_.duration);
  if (now < end && now - interval_begin_ < interval_) return true;
  EndInterval(now);
  Tell(now, end);
  if (now < end) return true;
  if (warming_up) {
    intervals_.clear();
    BeginMeasuring();
    return true;
  }
  phase_ = Phase::kOver;
  end_ = Read();
  return false;
}

void Stopwatch::EndInterval(Clock::time_point now) {
  uint64_t bytes = BytesOf(engine_.counters());
  intervals_.push_back(
      {.seconds = Seconds(now - interval_begin_).count(), .bytes = bytes - interval_begin_bytes_});
  interval_begin_ = now;
  interval_begin_bytes_ = bytes;
}

void Stopwatch::Tell(Clock::time_point now, Clock::time_point end) const {
  if (!options_.progress) return;
  bool warming_up = phase_ == Phase::kWarmUp;
  Seconds left = std::max(Seconds(0), Seconds(end - now));
  options_.progress({.warming_up = warming_up,
                     .left = warming_up ? left + options_.duration : left,
                     .bytes_per_s = intervals_.back().bytes_per_s()});
}

void Stopwatch::Stop() {
  if (phase_ == Phase::kOver) return;
  if (phase_ == Phase::kWarmUp) begin_ = Read();
  end_ = Read();
  phase_ = Phase::kOver;
}

WorkloadResult Stopwatch::Result() const {
  IoCounters total = engine_.counters();
  return {.seconds = Seconds(end_.at - begin_.at).count(),
          .bytes_read = end_.counters.bytes_read - begin_.counters.bytes_read,
          .bytes_written = end_.counters.bytes_written - begin_.counters.bytes_written,
          .pieces = end_.counters.pieces - begin_.counters.pieces,
          .read_latency = end_.read_latency.Since(begin_.read_latency),
          .write_latency = end_.write_latency.Since(begin_.write_latency),
          .cpu_s = end_.cpu_s - begin_.cpu_s,
          .check_cpu_s = end_.check_cpu_s - begin_.check_cpu_s,
          .intervals = intervals_,
          .total_bytes_read = total.bytes_read - start_counters_.bytes_read,
          .total_bytes_written = total.bytes_written - start_counters_.bytes_written,
          .retries = total.retries - start_counters_.retries,
          .short_transfers = total.short_transfers - start_counters_.short_transfers};
}

}  // namespace strata::aio
