#include "aio/bench/spread.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "aio/bench/internal/robust_stats.h"

namespace strata::aio {
namespace {

constexpr size_t kMinRates = 9;
constexpr double kSlow = 0.8;
constexpr double kMedianOverMean = 1.2533;  // standard error of a median / that of a mean

std::vector<double> Copy(std::span<const double> values) {
  return std::vector<double>(values.begin(), values.end());
}

// Of the median, squared.
double ErrorSquared(std::span<const double> values) {
  double median = bench_internal::Median(Copy(values));
  std::vector<double> residuals = Copy(values);
  for (double& residual : residuals) residual -= median;
  double scale = kMedianOverMean * bench_internal::RobustScale(std::move(residuals));
  return scale * scale / static_cast<double>(values.size());
}

}  // namespace

Spread SpreadOf(std::span<const double> values) {
  if (values.empty()) return {};
  auto [min, max] = std::minmax_element(values.begin(), values.end());
  double count = static_cast<double>(values.size());
  double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (double value : values) squares += (value - mean) * (value - mean);
  bool has_variation = values.size() > 1 && mean > 0;
  return {.min = *min,
          .mean = mean,
          .max = *max,
          .variation = has_variation ? std::sqrt(squares / (count - 1)) / mean : 0};
}

std::optional<Slowdown> FindSlowdown(std::span<const double> rates) {
  if (rates.size() < kMinRates) return std::nullopt;
  std::span<const double> first = rates.first(rates.size() / 3);
  std::span<const double> last = rates.last(rates.size() / 3);
  Slowdown slowdown = {.first_third = bench_internal::Median(Copy(first)),
                       .last_third = bench_internal::Median(Copy(last))};
  double error = std::sqrt(ErrorSquared(first) + ErrorSquared(last));
  bool is_clear = slowdown.first_third - slowdown.last_third > 4 * error;
  if (slowdown.last_third >= kSlow * slowdown.first_third || !is_clear) return std::nullopt;
  return slowdown;
}

}  // namespace strata::aio
