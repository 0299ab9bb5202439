#include "aio/bench/internal/robust_stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "aio/base/check.h"

namespace strata::aio::bench_internal {

double Median(std::vector<double> values) {
  STRATA_CHECK(!values.empty());
  auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

double Mean(const std::vector<double>& values) {
  STRATA_CHECK(!values.empty());
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double RobustScale(std::vector<double> residuals) {
  for (double& residual : residuals) residual = std::abs(residual);
  return 1.4826 * Median(std::move(residuals));
}

std::vector<double> ResidualsFromMedian(const std::vector<double>& values) {
  if (values.size() < 2) return {};
  double n = static_cast<double>(values.size());
  double median = Median(values);
  std::vector<double> residuals;
  for (double value : values) residuals.push_back((value - median) * std::sqrt(n / (n - 1)));
  return residuals;
}

double StudentT975(size_t degrees_of_freedom) {
  STRATA_CHECK(degrees_of_freedom >= 1);
  if (degrees_of_freedom == 1) return 12.706;
  if (degrees_of_freedom == 2) return 4.303;
  // Fisher and Cornish's expansion; within 1 % from three degrees on.
  constexpr double kZ = 1.959964;
  double nu = static_cast<double>(degrees_of_freedom), z2 = kZ * kZ;
  double first = kZ * (z2 + 1) / 4;
  double second = kZ * ((5 * z2 + 16) * z2 + 3) / 96;
  double third = kZ * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
  return kZ + first / nu + second / (nu * nu) + third / (nu * nu * nu);
}

double MedianHalfWidth(double scale, size_t num_samples, size_t degrees_of_freedom) {
  // A median needs pi / 2 times as many samples as a mean to be as sure.
  constexpr double kMedianToMean = 1.2533;
  return StudentT975(degrees_of_freedom) * kMedianToMean * scale /
         std::sqrt(static_cast<double>(num_samples));
}

}  // namespace strata::aio::bench_internal
