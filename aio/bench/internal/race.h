// The search itself: who is measured in which round. See tune.h for why.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "aio/bench/internal/lattice.h"
#include "aio/bench/internal/score_board.h"
#include "aio/bench/tune.h"

namespace strata::aio::bench_internal {

// What happened to one candidate.
struct Run {
  uint32_t last_round = 0;       // 0: never measured
  std::optional<Status> failed;  // never ok
};

class Race {
 public:
  using Seconds = std::chrono::duration<double>;

  // All of these outlive the race.
  Race(const TuneOptions& options, const MeasureSetting& measure,
       const TuneProgressCallback& progress, const TuneCancelCheck& cancelled);

  // Returns at the end of the budget, or when the search is cancelled.
  Status Go();

  const ScoreBoard& board() const { return board_; }
  const std::vector<Run>& runs() const { return runs_; }
  uint32_t rounds() const { return round_; }
  uint32_t measurements() const { return measurements_; }
  Seconds sample() const { return sample_; }
  Seconds used() const { return options_.now() - start_; }
  bool cancelled() const { return is_cancelled_; }

  bool IsStanding(size_t candidate) const {
    return !runs_[candidate].failed && board_.score(candidate).has_value();
  }
  // Log speed that the best is sure to have; nothing while no candidate has samples enough.
  std::optional<double> SureOfBest() const;

 private:
  // A pass measures one candidate once per traffic.
  Status WarmUp();
  Result<std::vector<TuneSample>> MeasurePass(size_t candidate);
  bool Pass(size_t candidate);  // false: failed or cancelled
  void MeasureRound(std::vector<size_t> pool);
  void Report(size_t candidate, size_t traffic) const;

  std::vector<size_t> NextPool();
  std::vector<bool> Failed() const;

  Status CheckBudget() const;
  Status FirstFailure() const;
  bool StopsNow();
  size_t PassesLeft() const;

  const TuneOptions& options_;
  const MeasureSetting& measure_;
  const TuneProgressCallback& progress_;
  const TuneCancelCheck& cancel_check_;
  Lattice lattice_;
  ScoreBoard board_;
  std::vector<Run> runs_;
  std::mt19937_64 random_;
  Seconds start_ = {};
  Seconds sample_ = {};
  Seconds pass_ = {};  // how long one takes, as seen lately
  uint32_t round_ = 0;
  uint32_t measurements_ = 0;
  size_t settings_in_round_ = 0;
  std::optional<size_t> leader_;
  bool is_cancelled_ = false;
};

}  // namespace strata::aio::bench_internal
