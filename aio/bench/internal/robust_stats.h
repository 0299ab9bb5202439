// Statistics that a few wild values do not move.
#pragma once

#include <cstddef>
#include <vector>

namespace strata::aio::bench_internal {

// Of at least one value.
double Median(std::vector<double> values);
double Mean(const std::vector<double>& values);

// 1.4826 x the median distance from zero: the standard deviation, were the residuals normal.
double RobustScale(std::vector<double> residuals);

// The distances of the values from their median, each as large as the error of a single value: the
// median has come close to its own values, the more so the fewer there are.
std::vector<double> ResidualsFromMedian(const std::vector<double>& values);

// The 97.5 % quantile of Student's t. At least one degree of freedom.
double StudentT975(size_t degrees_of_freedom);

// Half the 95 % confidence interval of the median of `num_samples` values that scatter by `scale`.
double MedianHalfWidth(double scale, size_t num_samples, size_t degrees_of_freedom);

}  // namespace strata::aio::bench_internal
