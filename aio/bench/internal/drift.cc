#include "aio/bench/internal/drift.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "aio/bench/internal/robust_stats.h"

namespace strata::aio::bench_internal {
namespace {

constexpr size_t kNeighbours = 6;  // on either side
constexpr int kMostTurns = 8;
constexpr double kConverged = 1e-3;
// Who survives a cut was lucky in the round before it. That looks as if the disk had become slower,
// by as much as the noise, and would be held against all who were cut.
constexpr double kBelowNoise = 2;

class DriftFit {
 public:
  DriftFit(const std::vector<Observation>& observations, size_t num_candidates)
      : observations_(observations), of_candidate_(num_candidates), drift_(observations.size()) {
    for (size_t i = 0; i < observations.size(); ++i)
      of_candidate_[observations[i].candidate].push_back(i);
    // A candidate's only sample fits any drift, so it tells of none.
    for (size_t i = 0; i < observations.size(); ++i)
      if (of_candidate_[observations[i].candidate].size() > 1) telling_.push_back(i);
  }

  std::vector<double> Run() {
    if (telling_.empty()) return drift_;
    for (int turn = 0; turn < kMostTurns; ++turn)
      if (UpdateDrift(Residuals()) < kConverged) break;
    std::vector<double> later(drift_.begin() + static_cast<ptrdiff_t>(drift_.size() / 2),
                              drift_.end());
    double level = Median(std::move(later));
    double noise = Noise();
    for (double& drift : drift_)
      drift = std::abs(drift - level) < kBelowNoise * noise ? 0 : drift - level;
    return drift_;
  }

 private:
  // Of the telling observations, without the level of their candidates.
  std::vector<double> Residuals() const {
    std::vector<double> levels(of_candidate_.size());
    for (size_t c = 0; c < of_candidate_.size(); ++c) {
      std::vector<double> values;
      for (size_t i : of_candidate_[c])
        values.push_back(observations_[i].log_throughput - drift_[i]);
      if (!values.empty()) levels[c] = Median(std::move(values));
    }
    std::vector<double> residuals;
    for (size_t i : telling_)
      residuals.push_back(observations_[i].log_throughput - levels[observations_[i].candidate]);
    return residuals;
  }

  // How far a single observation scatters, drift taken out.
  double Noise() const {
    std::vector<double> all;
    for (const std::vector<size_t>& of_one : of_candidate_) {
      std::vector<double> values;
      for (size_t i : of_one) values.push_back(observations_[i].log_throughput - drift_[i]);
      std::vector<double> residuals = ResidualsFromMedian(values);
      all.insert(all.end(), residuals.begin(), residuals.end());
    }
    return RobustScale(std::move(all));
  }

  // Returns the largest change.
  double UpdateDrift(const std::vector<double>& residuals) {
    double largest = 0;
    for (size_t i = 0, after = 0; i < drift_.size(); ++i) {
      while (after < telling_.size() && telling_[after] < i) ++after;
      size_t begin = after > kNeighbours ? after - kNeighbours : 0;
      size_t end = std::min(telling_.size(), after + kNeighbours + 1);
      double drift = Median({residuals.begin() + static_cast<ptrdiff_t>(begin),
                             residuals.begin() + static_cast<ptrdiff_t>(end)});
      largest = std::max(largest, std::abs(drift - std::exchange(drift_[i], drift)));
    }
    return largest;
  }

  std::span<const Observation> observations_;
  std::vector<std::vector<size_t>> of_candidate_;
  std::vector<size_t> telling_;  // indices, in order of time
  std::vector<double> drift_;
};

}  // namespace

std::vector<double> FitDrift(const std::vector<Observation>& observations, size_t num_candidates) {
  if (observations.empty()) return {};
  return DriftFit(observations, num_candidates).Run();
}

}  // namespace strata::aio::bench_internal
