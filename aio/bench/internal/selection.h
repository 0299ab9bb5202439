// Who is measured in the next round.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "aio/bench/aio_setting.h"
#include "aio/bench/internal/lattice.h"
#include "aio/bench/internal/score_board.h"

namespace strata::aio::bench_internal {

// With so many samples one lucky run does not carry a candidate's median.
inline constexpr size_t kSamplesOfAWinner = 3;
// The leader and two who contest it.
inline constexpr size_t kSmallestPool = 3;

class Selection {
 public:
  // What the candidates' passes say now; all outlive it. `has_failed` per candidate.
  Selection(const std::vector<AioSetting>& settings, const Lattice& lattice,
            const ScoreBoard& board, const std::vector<bool>& has_failed);

  // The candidates that were measured and did not fail, the fastest first.
  const std::vector<size_t>& by_speed() const { return by_speed_; }

  // Log speed that the best is sure to have; nothing while no candidate has samples enough.
  std::optional<double> SureOfBest() const;

  // `passes_left` is how many there is time for, `is_end` whether that is the last part of the
  // budget. Empty when every candidate failed.
  std::vector<size_t> NextPool(size_t passes_left, bool is_end) const;

 private:
  std::vector<size_t> Untried() const;
  std::vector<size_t> Newcomers() const;
  std::vector<size_t> InReach() const;
  std::vector<size_t> Contest() const;
  const Estimate& score(size_t i) const { return *board_.score(i); }

  const std::vector<AioSetting>& settings_;
  const Lattice& lattice_;
  const ScoreBoard& board_;
  const std::vector<bool>& has_failed_;
  std::vector<size_t> by_speed_;
};

}  // namespace strata::aio::bench_internal
