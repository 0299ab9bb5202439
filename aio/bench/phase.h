// One kind of traffic, measured in several runs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "aio/base/status.h"
#include "aio/bench/drive_use.h"
#include "aio/bench/spread.h"
#include "aio/bench/stop.h"
#include "aio/bench/target.h"
#include "aio/bench/workload.h"
#include "aio/io_engine.h"

namespace strata::aio {

struct PhaseProgress {
  uint32_t run = 1;
  WorkloadProgress now = {};
  Seconds left = {};  // of the whole phase
};

struct PhaseOptions {
  Mix mix = {};
  AccessOrder order = AccessOrder::kSequential;
  Seconds duration = Seconds(5);  // of all runs together; warm-ups come on top
  uint32_t runs = 3;
  // On: after writes, everything is read and checked, off the clock.
  DataCheck check = DataCheck::kOff;
  WrittenData written = WrittenData::kUnique;
  std::function<void(const PhaseProgress&)> progress = {};
  BytesProgress check_progress = {};
  StopCheck stop = {};
};

struct PhaseResult {
  Mix mix = {};
  AccessOrder order = AccessOrder::kSequential;
  std::vector<WorkloadResult> runs = {};  // those that measured something
  std::vector<DriveUse> drives = {};
  bool verified = false;
  bool stopped = false;  // early: the figures are of what was done by then

  // All runs as one.
  double seconds() const;
  uint64_t bytes_read() const;
  uint64_t bytes_written() const;
  uint64_t pieces() const;
  double cpu_s() const;
  double check_cpu_s() const;
  LatencyHistogram latency(IoDirection direction) const;
  uint64_t bytes() const { return bytes_read() + bytes_written(); }
  double bytes_per_s() const;

  Spread spread() const;  // of the runs' bytes per second
  std::optional<Slowdown> slowdown() const;

  // What the drives counted, over what this program moved in the same time; warm-ups and ends of
  // runs are in both. None where nothing was counted.
  std::optional<double> drives_over_ours(IoDirection direction) const;
};

// `engine` was made with `setting`; see RunWorkload.
Result<PhaseResult> RunPhase(BenchTarget& target, IoEngine& engine, const AioSetting& setting,
                             std::span<std::byte> memory, const PhaseOptions& options);

}  // namespace strata::aio
