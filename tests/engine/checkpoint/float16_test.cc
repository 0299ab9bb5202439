#include "engine/checkpoint/float16.h"

#include <gtest/gtest.h>

#include <cmath>

namespace strata::engine {
namespace {

TEST(Float16Test, EveryHalfIsTheNumberThatTheStandardSays) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    int exponent = (bits >> 10) & 31;
    int mantissa = bits & 1023;
    double sign = bits & 0x8000 ? -1 : 1;
    float actual = FromF16(static_cast<uint16_t>(bits));
    ASSERT_EQ(std::signbit(actual), sign < 0) << bits;
    if (exponent == 31 && mantissa != 0) {
      ASSERT_TRUE(std::isnan(actual)) << bits;
    } else if (exponent == 31) {
      ASSERT_EQ(actual, sign * INFINITY) << bits;
    } else if (exponent == 0) {
      ASSERT_EQ(actual, sign * std::ldexp(mantissa, -24)) << bits;
    } else {
      ASSERT_EQ(actual, sign * std::ldexp(1024 + mantissa, exponent - 25)) << bits;
    }
  }
}

}  // namespace
}  // namespace strata::engine
