#include "aio/bench/internal/choice.h"

#include <algorithm>
#include <cmath>

namespace strata::aio::bench_internal {
namespace {

constexpr double kIndistinguishable = 0.01;
constexpr double kSameCpu = 0.1;  // CPU time is noisy, too: closer than this is no difference

double LowEnd(const Estimate& score) {
  return std::isfinite(score.half_width) ? score.low() : score.median;
}

// Removes all whose cost is more than `tolerance` above the least.
template <typename Cost>
void KeepCheapest(std::vector<size_t>& candidates, double tolerance, Cost cost) {
  double least = cost(candidates[0]);
  for (size_t i : candidates) least = std::min(least, cost(i));
  std::erase_if(candidates, [&](size_t i) { return cost(i) > least * (1 + tolerance); });
}

}  // namespace

std::optional<size_t> Choice::Surest(const std::vector<size_t>& among) const {
  std::optional<size_t> surest;
  for (size_t i : among)
    if (!surest || LowEnd(*board_.score(i)) > LowEnd(*board_.score(*surest))) surest = i;
  return surest;
}

std::vector<size_t> Choice::AsFastAs(size_t best, const std::vector<size_t>& among,
                                     double least_certain) const {
  double median = board_.score(best)->median;
  std::vector<size_t> equals = {best};
  for (size_t i : among) {
    const Estimate& score = *board_.score(i);
    if (i != best && score.median >= median + std::log1p(-kIndistinguishable) &&
        score.low() >= median + std::log1p(-least_certain))
      equals.push_back(i);
  }
  return equals;
}

std::optional<size_t> Choice::Cheapest(const std::vector<size_t>& among,
                                       double least_certain) const {
  std::optional<size_t> best = Surest(among);
  if (!best) return {};
  std::vector<size_t> equals = AsFastAs(*best, among, least_certain);
  KeepCheapest(equals, kSameCpu, [&](size_t i) { return board_.CpuSecondsPerByte(i); });
  KeepCheapest(equals, 0, [&](size_t i) { return double(settings_[i].in_flight_bytes()); });
  KeepCheapest(equals, 0, [&](size_t i) { return double(settings_[i].thread_count); });
  return equals[0];
}

}  // namespace strata::aio::bench_internal
