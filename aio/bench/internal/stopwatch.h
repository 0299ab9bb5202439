// The clock of a run: warm-up, the measured part in intervals, and what was done in each.
#pragma once

#include <chrono>
#include <cstdint>

#include "aio/bench/workload.h"
#include "aio/io_engine.h"

namespace strata::aio {

// Reads the engine's counters at the moments that matter. Thread-compatible.
class Stopwatch {
 public:
  // `engine` and `options` outlive it. Starts at once.
  Stopwatch(const IoEngine& engine, const WorkloadOptions& options);

  // To be called whenever something has ended. False once the time is over.
  bool Tick();
  // No more to come: what was measured so far counts.
  void Stop();

  // Spent making and checking data, of the whole run; the caller adds to it.
  double& check_cpu_s() { return check_cpu_s_; }

  // After Tick() said so or Stop().
  WorkloadResult Result() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Reading {
    Clock::time_point at = {};
    IoCounters counters = {};
    LatencyHistogram read_latency = {};
    LatencyHistogram write_latency = {};
    double cpu_s = 0;
    double check_cpu_s = 0;
  };
  enum class Phase { kWarmUp, kMeasuring, kOver };

  Reading Read() const;
  void BeginMeasuring();
  void EndInterval(Clock::time_point now);
  void Tell(Clock::time_point now, Clock::time_point end) const;

  const IoEngine& engine_;
  const WorkloadOptions& options_;
  const Clock::time_point start_;
  const IoCounters start_counters_;
  const Clock::duration interval_;
  Phase phase_ = Phase::kWarmUp;
  Reading begin_;
  Reading end_;
  Clock::time_point interval_begin_;
  uint64_t interval_begin_bytes_ = 0;
  std::vector<Interval> intervals_;
  double check_cpu_s_ = 0;
};

}  // namespace strata::aio
