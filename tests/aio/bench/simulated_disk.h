// A disk that is nothing but formulas, on a clock that is nothing but a number.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "aio/bench/tune.h"

namespace strata::aio {

// Rises with the bytes in flight to a plateau, as disks do: bytes/s in the long run.
inline double PlateauDisk(const AioSetting& setting, Traffic traffic) {
  double plateau = traffic == Traffic::kRead ? 3.5e9 : traffic == Traffic::kWrite ? 6e9 : 4e9;
  double in_flight = static_cast<double>(setting.in_flight_bytes());
  double of_engine = setting.backend == IoBackend::kPosix ? 0.85 : 1.0;
  return plateau * of_engine * in_flight / (in_flight + 0.25e6);
}

// The plateau, with one best block size and depth: `fall` per power of two away from it.
inline double PeakedDisk(const AioSetting& setting, Traffic traffic, double block, double depth,
                         double fall) {
  double steps = std::abs(std::log2(static_cast<double>(setting.block_size_bytes) / block)) +
                 std::abs(std::log2(setting.queue_depth / depth)) +
                 0.5 * std::abs(setting.thread_count - 1.0);
  double of_engine = setting.backend == IoBackend::kPosix ? 0.85 : setting.sqpoll ? 0.95 : 1.0;
  return (traffic == Traffic::kMix ? 4e9 : 3e9) * of_engine * std::pow(1 - fall, steps);
}

class SimulatedDisk {
 public:
  using Truth = std::function<double(const AioSetting&, Traffic)>;
  struct Options {
    Truth truth = PlateauDisk;
    double noise = 0.05;  // standard deviation of the log
    double lucky = 0;     // probability of a sample 1.5 x too good
    double stalled = 0;   // probability of a sample half as good
    double burst_s = 0;   // in the beginning all is `burst` x faster
    double burst = 2;
    double drift_per_s = 0;    // of the log
    double overhead_s = 0.01;  // that a measurement takes on top
    uint64_t seed = 1;
    std::function<Status(const AioSetting&)> failure = {};
  };

  explicit SimulatedDisk(Options options) : options_(std::move(options)), random_(options_.seed) {}

  TuneClock clock() {
    return [this] { return std::chrono::duration<double>(now_s_); };
  }
  double now_s() const { return now_s_; }
  size_t measurements() const { return measurements_; }

  MeasureSetting measure() {
    return [this](const AioSetting& setting, Traffic traffic,
                  std::chrono::duration<double> for_how_long) -> Result<TuneSample> {
      ++measurements_;
      if (options_.failure)
        if (Status status = options_.failure(setting); !status.ok()) return status;
      double middle_s = now_s_ + for_how_long.count() / 2;
      now_s_ += for_how_long.count() + options_.overhead_s;
      double cpu = 5e-3 / 1e9 * (1 + 0.25e6 / static_cast<double>(setting.block_size_bytes)) *
                   (setting.sqpoll ? 20 : 1) * Noise(0.03);
      return TuneSample{.bytes_per_s = options_.truth(setting, traffic) * Mood(middle_s),
                        .cpu_s_per_byte = cpu};
    };
  }

 private:
  double Noise(double sd) { return std::exp(std::normal_distribution<double>(0, sd)(random_)); }
  bool Happens(double probability) {
    return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
  }
  double Mood(double now_s) {
    double mood = Noise(options_.noise) * std::exp(options_.drift_per_s * now_s);
    if (Happens(options_.lucky)) mood *= 1.5;
    if (Happens(options_.stalled)) mood *= 0.5;
    if (now_s < options_.burst_s) mood *= options_.burst;
    return mood;
  }

  Options options_;
  std::mt19937_64 random_;
  double now_s_ = 100;
  size_t measurements_ = 0;
};

// How fast training traffic is by the disk's formulas: 1 / sum(weight / bytes/s), as in tune.h.
inline double TrueSpeed(const SimulatedDisk::Truth& truth, const AioSetting& setting,
                        const std::vector<AioSetting>& all) {
  double time = 0;
  for (auto [traffic, weight] : {std::pair(Traffic::kRead, 0.2), std::pair(Traffic::kWrite, 0.1),
                                 std::pair(Traffic::kMix, 0.7)}) {
    double best = 0;
    for (const AioSetting& each : all) best = std::max(best, truth(each, traffic));
    time += weight * best / truth(setting, traffic);
  }
  return 1 / time;
}

}  // namespace strata::aio
