// Finds the setting of the engine that suits a disk and training traffic, within a budget of time.
//
// Disks are noisy: they burst, drift, stall, and now and then one short run is half as fast again
// as the disk can sustain. So no setting wins by one good run:
// - Measurements are short and interleaved. In every round each surviving setting is measured once
//   per kind of traffic, in an order that is shuffled anew. Slow drift hits all alike, and what is
//   left of it is fitted and taken out (internal/drift.h).
// - The coarse grid comes first; then the neighbours of the leaders, one step away on one axis,
// come
//   in: it is assumed that speed rises and falls once along an axis, give or take the noise.
// - At the border of a round the settings whose interval lies clearly below the best one's are
//   eliminated; of the rest as many go on as the budget can measure several times more, so that the
//   rounds shrink and their settings grow certain. Who was thrown back by one unlucky run gets
//   another chance as long as its interval, or a leading neighbour, speaks for it.
// - Among settings that cannot be told from the best the cheapest wins.
//
// The objective is the time that training traffic takes: a step reads alone in forward, reads and
// writes at once while the optimizer runs, and writes alone at its end and for checkpoints. With
// everything on NVMe 24 of 26 bytes per parameter move while reads and writes run together, but the
// ends of that phase are not mixed, hence the weights 0.2 read, 0.1 write, 0.7 mix. A setting's
// speed is 1 / sum(weight x best bytes/s of this traffic / its own bytes/s): the weighted harmonic
// mean of its bandwidths, each as a share of the best; 1 is the best in everything.
//
// The interval is that of the median of log throughput: median +- t x 1.2533 s / sqrt(n). Log,
// because the noise multiplies; the median and s = 1.4826 MAD, because the noise has rare wild runs
// on both sides, which would carry a mean off; s pooled over all settings (or a setting's own,
// where it has samples enough and is noisier), because two samples say nothing of their own spread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/bench/aio_setting.h"

namespace strata::aio {

struct TuneSample {
  double bytes_per_s = 0;  // both directions together for the mix
  double cpu_s_per_byte = 0;
};

// Runs one kind of traffic with a setting. Takes `for_how_long` and a little more. kCancelled stops
// the search; any other failure is the setting's.
using MeasureSetting = std::function<Result<TuneSample>(
    const AioSetting&, Traffic, std::chrono::duration<double> for_how_long)>;

// Seconds since some moment; monotonic.
using TuneClock = std::function<std::chrono::duration<double>()>;
std::chrono::duration<double> SteadySeconds();

struct TuneOptions {
  std::vector<AioSetting> candidates;  // without repetition
  std::vector<Traffic> traffics = {Traffic::kRead, Traffic::kWrite, Traffic::kMix};
  std::chrono::duration<double> budget = std::chrono::seconds(60);
  uint64_t seed = 1;
  TuneClock now = SteadySeconds;
};

// What one setting did with one kind of traffic, drift taken out. Zeros without samples; without an
// interval (too little was measured) low and high are the median.
struct TrafficResult {
  size_t num_samples = 0;
  double median_bytes_per_s = 0;
  double mean_bytes_per_s = 0;
  double low_bytes_per_s = 0;  // 95 % confidence interval of the median
  double high_bytes_per_s = 0;
  double cpu_s_per_byte = 0;  // median
};

enum class Fate {
  kWinner,
  kFinalist,     // measured to the end
  kEliminated,   // its interval lies clearly below the best one's
  kCut,          // behind, and the budget did not reach for it
  kFailed,       // could not be measured: `why` says what the engine said
  kNotMeasured,  // not on the coarse grid, and no neighbour of a leader
};
std::string_view FateName(Fate fate);

struct TuneCandidate {
  AioSetting setting;
  std::vector<TrafficResult> traffics = {};  // as TuneReport::traffics
  double speed = 0;                          // of training traffic, see above; 0: not measured
  double low_speed = 0;                      // 95 % confidence interval
  double high_speed = 0;
  double cpu_s_per_byte = 0;  // weighted like the objective
  Fate fate = Fate::kNotMeasured;
  uint32_t round = 0;    // the last one it took part in
  std::string why = {};  // for people: why it won, or did not
};

struct TuneReport {
  std::vector<Traffic> traffics;
  std::vector<TuneCandidate> candidates;  // in the order of the options
  // Empty when the search was cancelled before anything was known.
  std::optional<size_t> winner;
  // The fastest of each traffic, of those measured to the end or thrice. In the order of
  // `traffics`.
  std::vector<std::optional<size_t>> best_of_traffic;
  std::chrono::duration<double> budget = {};
  std::chrono::duration<double> used = {};
  std::chrono::duration<double> sample = {};  // how long one measurement was
  uint32_t rounds = 0;
  uint32_t measurements = 0;
  uint64_t seed = 0;
  bool cancelled = false;
};

struct TuneProgress {
  uint32_t round = 0;
  size_t settings_in_round = 0;
  std::chrono::duration<double> used = {};
  std::chrono::duration<double> budget = {};
  AioSetting setting;  // what is measured next
  Traffic traffic = Traffic::kRead;
  std::optional<AioSetting> leader;
};
using TuneProgressCallback = std::function<void(const TuneProgress&)>;
using TuneCancelCheck = std::function<bool()>;

// Blocks for the budget, kept within 5 %. A budget too small to tell settings apart is
// kInvalidArgument and says what would do; when no setting works the first one's failure is
// returned. A cancelled search returns what is known so far.
Result<TuneReport> Tune(const TuneOptions& options, const MeasureSetting& measure,
                        const TuneProgressCallback& progress = {},
                        const TuneCancelCheck& cancelled = {});

}  // namespace strata::aio
