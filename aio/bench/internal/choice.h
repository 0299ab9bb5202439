// One winner out of many that are about as fast.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "aio/bench/aio_setting.h"
#include "aio/bench/internal/score_board.h"

namespace strata::aio::bench_internal {

class Choice {
 public:
  // Both outlive it.
  Choice(const ScoreBoard& board, const std::vector<AioSetting>& settings)
      : board_(board), settings_(settings) {}

  // The one with the highest low end: that is surely fast, not one that may be. `among` have
  // scores.
  std::optional<size_t> Surest(const std::vector<size_t>& among) const;

  // Of those that look as fast as the surest (within 1 %) the cheapest: least CPU, then least
  // memory in flight, then fewest threads. `least_certain`: how far below the surest one's median
  // the low end of its interval may be. Without a bound the cheapest of many noisy ones would win,
  // which is often one that had luck.
  std::optional<size_t> Cheapest(const std::vector<size_t>& among, double least_certain) const;

 private:
  std::vector<size_t> AsFastAs(size_t best, const std::vector<size_t>& among,
                               double least_certain) const;

  const ScoreBoard& board_;
  const std::vector<AioSetting>& settings_;
};

}  // namespace strata::aio::bench_internal
