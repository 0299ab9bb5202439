// How much repeated measurements differ, and whether a drive slowed down.
#pragma once

#include <optional>
#include <span>

namespace strata::aio {

struct Spread {
  double min = 0;
  double mean = 0;
  double max = 0;
  double variation = 0;  // standard deviation of one value / mean; 0 of fewer than two
};
Spread SpreadOf(std::span<const double> values);  // zeros of none

// A drive that gets too hot, or whose fast cache is full, is slower at the end than at the start.
struct Slowdown {
  double first_third = 0;  // medians
  double last_third = 0;
};
// `rates` in the order of their time. Seen when the median of the last third is below 80 % of that
// of the first, and by more than four standard errors: 1.2533 x 1.4826 MAD / sqrt(n) of each
// third, added up as squares. Of fewer than 9 values nothing is said.
std::optional<Slowdown> FindSlowdown(std::span<const double> rates);

}  // namespace strata::aio
