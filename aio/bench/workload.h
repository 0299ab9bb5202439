// One run of traffic on a target, measured.
//
// The engine always has more to do than it may have in flight: the submitting thread keeps a few
// long requests ahead of it, each of many blocks, and sleeps until the oldest is over. So the
// figures are those of the engine and the drive, and the submitting costs next to nothing.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/bench/aio_setting.h"
#include "aio/bench/stop.h"
#include "aio/bench/target.h"
#include "aio/io_engine.h"
#include "aio/latency_histogram.h"

namespace strata::aio {

// Shares of the bytes. Not both 0.
struct Mix {
  uint32_t reads = 1;
  uint32_t writes = 0;

  bool operator==(const Mix&) const = default;
};
Mix MixOf(Traffic traffic);               // the mix is 50:50
std::string DescribeMix(const Mix& mix);  // "read", "write", "mixed 70:30"

enum class AccessOrder { kSequential, kRandom };
enum class DataCheck { kOff, kOn };
// Whether a drive that recognises what it has seen may find something.
enum class WrittenData { kUnique, kRepeated };

using Seconds = std::chrono::duration<double>;

struct WorkloadProgress {
  bool warming_up = false;
  Seconds left = {};
  double bytes_per_s = 0;  // of the latest interval, both directions
};

struct WorkloadOptions {
  Mix mix = {};
  // Random: blocks in the order of a permutation, each once before any comes again. In a mix, reads
  // go to the front of the target and writes to the rest, in the mix's proportion: nobody reads
  // what is being written.
  AccessOrder order = AccessOrder::kSequential;
  Seconds duration = Seconds(1);
  Seconds warm_up = Seconds(0);  // comes first and is not counted
  // On: every block that is read is checked, and every block that is written has all of its data
  // made anew; WorkloadResult::check_cpu_s says what that costs, on the clock. Off: writes differ
  // from each other in 40 bytes of every 4 KiB.
  DataCheck check = DataCheck::kOff;
  // Repeated: the buffers as they are, time and again, so that making data costs nothing. The
  // target's content is not known any more. Not together with checking.
  WrittenData written = WrittenData::kUnique;
  uint64_t seed = 1;
  std::function<void(const WorkloadProgress&)> progress = {};
  StopCheck stop = {};
};

struct Interval {
  double seconds = 0;
  uint64_t bytes = 0;  // both directions

  double bytes_per_s() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

struct WorkloadResult {
  // Between two moments of a full queue: neither start nor end of the run is in it.
  double seconds = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t pieces = 0;  // what went to the kernel, mostly whole blocks
  LatencyHistogram read_latency;
  LatencyHistogram write_latency;
  double cpu_s = 0;        // of the whole process, user and system
  double check_cpu_s = 0;  // of it, for making and checking data
  std::vector<Interval> intervals;
  // From before the first request to after the last one: what drives' counters are held against.
  uint64_t total_bytes_read = 0;
  uint64_t total_bytes_written = 0;
  uint64_t retries = 0;
  uint64_t short_transfers = 0;
  bool stopped = false;  // early: the figures are of what was done by then

  uint64_t bytes() const { return bytes_read + bytes_written; }
  double bytes_per_s() const { return seconds > 0 ? static_cast<double>(bytes()) / seconds : 0; }
  double pieces_per_s() const { return seconds > 0 ? static_cast<double>(pieces) / seconds : 0; }
  double cpu_s_per_byte() const { return bytes() > 0 ? cpu_s / static_cast<double>(bytes()) : 0; }
};

// The memory that a run with the setting wants; it does with less, as long as a block fits.
uint64_t WorkloadMemoryBytes(const AioSetting& setting);

// Blocks until the time is over. `engine` was made with `setting`, and best with `memory` as its
// registered memory; that holds the data in flight and is filled by FillPattern beforehand, as
// MakeBenchMemory does. Writes want a target that is writable; what a target holds can be checked
// where it is. A failure of I/O or data is the run's.
Result<WorkloadResult> RunWorkload(BenchTarget& target, IoEngine& engine, const AioSetting& setting,
                                   std::span<std::byte> memory, const WorkloadOptions& options);

}  // namespace strata::aio
