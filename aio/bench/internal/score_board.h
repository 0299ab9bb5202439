// All that was measured, and what it says about the candidates.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "aio/bench/aio_setting.h"
#include "aio/bench/internal/drift.h"
#include "aio/bench/tune.h"

namespace strata::aio::bench_internal {

// A median with its interval, in logs. Without an interval the half-width is infinite.
struct Estimate {
  size_t num_samples = 0;
  double median = 0;
  double half_width = 0;

  double low() const { return median - half_width; }
  double high() const { return median + half_width; }
};

class ScoreBoard {
 public:
  ScoreBoard(std::vector<Traffic> traffics, size_t num_candidates);

  void Add(size_t candidate, size_t traffic, const TuneSample& sample);

  // Fits drifts and scores anew. What follows is of the last Update().
  void Update();

  // Log speed of training traffic, see tune.h. Only candidates with a sample of every traffic.
  const std::optional<Estimate>& score(size_t candidate) const { return scores_[candidate]; }
  TrafficResult ResultOf(size_t candidate, size_t traffic) const;
  // Weighted like the objective. The candidate has a score.
  double CpuSecondsPerByte(size_t candidate) const;

 private:
  struct PooledScale {  // how far samples scatter
    double scale = 0;
    size_t degrees_of_freedom = 0;  // 0: nothing is known
  };
  struct Series {  // one candidate's samples of one traffic
    std::vector<size_t> observations;
    std::vector<double> cpu_s_per_byte;
    std::vector<double> settled;  // log throughput without the drift
  };
  struct Lane {  // one traffic
    double weight = 0;
    std::vector<Observation> observations;
    std::vector<Series> of_candidate;
    PooledScale pooled;
    double best = 0;  // the highest median of a candidate
  };

  static PooledScale Pool(const std::vector<std::vector<double>>& of_candidates);
  static Estimate EstimateOf(const std::vector<double>& values, const PooledScale& pooled);
  void SettleLane(Lane& lane);
  std::vector<double> ScoresOf(size_t candidate) const;

  std::vector<Lane> lanes_;
  std::vector<std::optional<Estimate>> scores_;
};

}  // namespace strata::aio::bench_internal
