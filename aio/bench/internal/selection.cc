#include "aio/bench/internal/selection.h"

#include <algorithm>
#include <set>

#include "aio/bench/internal/choice.h"

namespace strata::aio::bench_internal {
namespace {

// Chosen with simulated disks: plateaus and peaks, bursts, lucky runs and stalls.
constexpr size_t kRoundsAhead = 7;  // a pool is so small that it could be measured so often more
constexpr size_t kLeaders = 3;      // those whose neighbours come in

void AddUpTo(size_t size, const std::vector<size_t>& from, std::vector<size_t>& pool) {
  for (size_t i : from)
    if (pool.size() < size && std::find(pool.begin(), pool.end(), i) == pool.end())
      pool.push_back(i);
}

}  // namespace

Selection::Selection(const std::vector<AioSetting>& settings, const Lattice& lattice,
                     const ScoreBoard& board, const std::vector<bool>& has_failed)
    : settings_(settings), lattice_(lattice), board_(board), has_failed_(has_failed) {
  for (size_t i = 0; i < settings.size(); ++i)
    if (!has_failed[i] && board.score(i)) by_speed_.push_back(i);
  std::stable_sort(by_speed_.begin(), by_speed_.end(),
                   [&](size_t a, size_t b) { return score(a).median > score(b).median; });
}

std::optional<double> Selection::SureOfBest() const {
  std::optional<double> sure;
  for (size_t i : by_speed_)
    if (score(i).num_samples >= kSamplesOfAWinner)
      sure = std::max(sure.value_or(score(i).low()), score(i).low());
  return sure;
}

std::vector<size_t> Selection::Untried() const {
  std::vector<size_t> untried;
  for (size_t i = 0; i < has_failed_.size(); ++i)
    if (!has_failed_[i]) untried.push_back(i);
  return untried;
}

// Neighbours of the leaders that nobody knows, and those of the first that had a single run: it may
// have been an unlucky one.
std::vector<size_t> Selection::Newcomers() const {
  std::vector<size_t> unknown, known_once;
  std::set<size_t> seen;
  for (size_t rank = 0; rank < std::min(kLeaders, by_speed_.size()); ++rank)
    for (size_t i : lattice_.NeighboursOf(by_speed_[rank])) {
      if (has_failed_[i] || !seen.insert(i).second) continue;
      if (!board_.score(i)) {
        unknown.push_back(i);
      } else if (rank == 0 && score(i).num_samples == 1) {
        known_once.push_back(i);
      }
    }
  unknown.insert(unknown.end(), known_once.begin(), known_once.end());
  return unknown;
}

// Those that may yet turn out the best, the most hopeful first.
std::vector<size_t> Selection::InReach() const {
  std::optional<double> sure = SureOfBest();
  std::vector<size_t> in_reach;
  for (size_t i : by_speed_)
    if (!sure || score(i).high() >= *sure) in_reach.push_back(i);
  std::stable_sort(in_reach.begin(), in_reach.end(),
                   [&](size_t a, size_t b) { return score(a).high() > score(b).high(); });
  return in_reach;
}

// The one that would win now, and a cheaper one that would if it were as certain.
std::vector<size_t> Selection::Contest() const {
  Choice choice(board_, settings_);
  std::vector<size_t> known;
  for (size_t i : by_speed_)
    if (score(i).num_samples > 1) known.push_back(i);
  std::vector<size_t> contest;
  constexpr double kHoweverUncertain = 1;
  if (auto surest = choice.Surest(known)) contest.push_back(*surest);
  if (auto cheapest = choice.Cheapest(known, kHoweverUncertain)) contest.push_back(*cheapest);
  return contest;
}

std::vector<size_t> Selection::NextPool(size_t passes_left, bool is_end) const {
  if (by_speed_.empty()) return Untried();  // what was tried failed
  size_t room = std::min(passes_left, std::max(kSmallestPool, passes_left / kRoundsAhead));
  std::vector<size_t> pool;
  if (is_end) AddUpTo(room, Contest(), pool);
  AddUpTo((room + 1) / 2, by_speed_, pool);
  // Who comes in now must still be measured often enough to win.
  bool is_early = passes_left > (kSamplesOfAWinner + 1) * kSmallestPool;
  if (is_early) AddUpTo(room, Newcomers(), pool);
  AddUpTo(room, InReach(), pool);
  AddUpTo(std::min(room, kSmallestPool), by_speed_, pool);
  return pool;
}

}  // namespace strata::aio::bench_internal
