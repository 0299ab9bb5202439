// References with how far each number may be off, for what is held to them element by element.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string_view>

#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {

struct Bounded {
  explicit Bounded(size_t size) : values(size), bounds(size) {}
  Reference values, bounds;
};

// What rounding a number to a format costs at most: half a unit in its last place, and where fp16
// has no more exponents, of the smallest.
constexpr double RoundingError(DType dtype, double value) {
  const double size = value < 0 ? -value : value;
  if (dtype == DType::kF32) return size * 0x1p-24;
  return dtype == DType::kF16 ? size * 0x1p-11 + 0x1p-25 : size * 0x1p-8;
}
// Per term of a sum of fp32, in any order, relative to the sum of the terms' absolute values: half
// a unit for the product and half for the sum, and as much again, as matrix units cut off where
// others round.
inline constexpr double kSumError = 0x1p-22;

// Bounds are of first order; what is of second is far below a hundredth of them.
inline void ExpectWithin(const TestMatrix& matrix, const Bounded& expected, std::string_view name) {
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const size_t row = i / matrix.cols(), col = i % matrix.cols();
    const double off = std::abs(matrix.Get(row, col) - expected.values[i]);
    if (off <= expected.bounds[i] * 1.01 + 1e-30) continue;  // a NaN is not
    ADD_FAILURE() << name << "[" << row << ", " << col << "] is " << matrix.Get(row, col)
                  << ", not " << expected.values[i] << " +- " << expected.bounds[i];
    return;
  }
}

}  // namespace strata::engine
