#include "aio/bench/internal/score_board.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "aio/bench/internal/robust_stats.h"

namespace strata::aio::bench_internal {
namespace {

// No disk is as steady as a few equal runs make it look.
constexpr double kLeastScale = 0.002;
// So many samples show a candidate's own noise.
constexpr size_t kEnoughSamples = 5;

double WeightOf(Traffic traffic) {
  switch (traffic) {
    case Traffic::kRead:
      return 0.2;
    case Traffic::kWrite:
      return 0.1;
    case Traffic::kMix:
      return 0.7;
  }
  STRATA_CHECK(false);
  return 0;
}

}  // namespace

ScoreBoard::ScoreBoard(std::vector<Traffic> traffics, size_t num_candidates)
    : lanes_(traffics.size()), scores_(num_candidates) {
  double sum = 0;
  for (Traffic traffic : traffics) sum += WeightOf(traffic);
  for (size_t t = 0; t < traffics.size(); ++t) {
    lanes_[t].weight = WeightOf(traffics[t]) / sum;
    lanes_[t].of_candidate.resize(num_candidates);
  }
}

void ScoreBoard::Add(size_t candidate, size_t traffic, const TuneSample& sample) {
  Lane& lane = lanes_[traffic];
  Series& series = lane.of_candidate[candidate];
  series.observations.push_back(lane.observations.size());
  series.cpu_s_per_byte.push_back(sample.cpu_s_per_byte);
  lane.observations.push_back(
      {.candidate = candidate, .log_throughput = std::log(sample.bytes_per_s)});
}

ScoreBoard::PooledScale ScoreBoard::Pool(const std::vector<std::vector<double>>& of_candidates) {
  std::vector<double> residuals;
  PooledScale pooled;
  for (const std::vector<double>& values : of_candidates) {
    std::vector<double> own = ResidualsFromMedian(values);
    residuals.insert(residuals.end(), own.begin(), own.end());
    if (!own.empty()) pooled.degrees_of_freedom += own.size() - 1;
  }
  if (!residuals.empty()) pooled.scale = std::max(kLeastScale, RobustScale(std::move(residuals)));
  return pooled;
}

Estimate ScoreBoard::EstimateOf(const std::vector<double>& values, const PooledScale& pooled) {
  Estimate estimate = {.num_samples = values.size(),
                       .median = Median(values),
                       .half_width = std::numeric_limits<double>::infinity()};
  if (pooled.degrees_of_freedom == 0) return estimate;
  double scale = pooled.scale;
  if (values.size() >= kEnoughSamples)
    scale = std::max(scale, RobustScale(ResidualsFromMedian(values)));
  estimate.half_width = MedianHalfWidth(scale, values.size(), pooled.degrees_of_freedom);
  return estimate;
}

void ScoreBoard::SettleLane(Lane& lane) {
  std::vector<double> drift = FitDrift(lane.observations, scores_.size());
  lane.best = -std::numeric_limits<double>::infinity();
  std::vector<std::vector<double>> of_candidates;
  for (Series& series : lane.of_candidate) {
    series.settled.clear();
    for (size_t i : series.observations)
      series.settled.push_back(lane.observations[i].log_throughput - drift[i]);
    if (!series.settled.empty()) lane.best = std::max(lane.best, Median(series.settled));
    of_candidates.push_back(series.settled);
  }
  lane.pooled = Pool(of_candidates);
}

// One per round that measured every traffic.
std::vector<double> ScoreBoard::ScoresOf(size_t candidate) const {
  size_t num_rounds = std::numeric_limits<size_t>::max();
  for (const Lane& lane : lanes_)
    num_rounds = std::min(num_rounds, lane.of_candidate[candidate].settled.size());
  std::vector<double> scores;
  for (size_t round = 0; round < num_rounds; ++round) {
    double time = 0;
    for (const Lane& lane : lanes_)
      time += lane.weight * std::exp(lane.best - lane.of_candidate[candidate].settled[round]);
    scores.push_back(-std::log(time));
  }
  return scores;
}

void ScoreBoard::Update() {
  for (Lane& lane : lanes_) SettleLane(lane);
  std::vector<std::vector<double>> of_candidates;
  for (size_t c = 0; c < scores_.size(); ++c) of_candidates.push_back(ScoresOf(c));
  PooledScale pooled = Pool(of_candidates);
  for (size_t c = 0; c < scores_.size(); ++c) {
    scores_[c].reset();
    if (!of_candidates[c].empty()) scores_[c] = EstimateOf(of_candidates[c], pooled);
  }
}

TrafficResult ScoreBoard::ResultOf(size_t candidate, size_t traffic) const {
  const Lane& lane = lanes_[traffic];
  const Series& series = lane.of_candidate[candidate];
  if (series.settled.empty()) return {};
  Estimate estimate = EstimateOf(series.settled, lane.pooled);
  if (std::isinf(estimate.half_width)) estimate.half_width = 0;
  std::vector<double> throughputs;
  for (double settled : series.settled) throughputs.push_back(std::exp(settled));
  return {.num_samples = series.settled.size(),
          .median_bytes_per_s = std::exp(estimate.median),
          .mean_bytes_per_s = Mean(throughputs),
          .low_bytes_per_s = std::exp(estimate.low()),
          .high_bytes_per_s = std::exp(estimate.high()),
          .cpu_s_per_byte = Median(series.cpu_s_per_byte)};
}

double ScoreBoard::CpuSecondsPerByte(size_t candidate) const {
  double cpu_s_per_byte = 0;
  for (const Lane& lane : lanes_)
    cpu_s_per_byte += lane.weight * Median(lane.of_candidate[candidate].cpu_s_per_byte);
  return cpu_s_per_byte;
}

}  // namespace strata::aio::bench_internal
