#include "engine/kernels/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }
uint32_t Half(Bf16 value) { return static_cast<uint32_t>(value); }

bool IsSignalingNaN(uint32_t pattern) {
  return (pattern & 0x7f80u) == 0x7f80u && (pattern & 0x7fu) != 0 && (pattern & 0x40u) == 0;
}

TEST(ToBf16Test, EveryBf16PatternSurvivesTheRoundTrip) {
  for (uint32_t pattern = 0; pattern < 0x10000; ++pattern) {
    // A signalling NaN may come back quiet; all else comes back as it was.
    const uint32_t expected = IsSignalingNaN(pattern) ? pattern | 0x40u : pattern;
    ASSERT_EQ(Half(ToBf16(FromBf16(Bf16(pattern)))), expected);
  }
}

TEST(ToBf16Test, TiesGoAwayFromZero) {
  EXPECT_EQ(Half(ToBf16(FromBits(0x3f808000))), 0x3f81u);
  EXPECT_EQ(Half(ToBf16(FromBits(0x3f818000))), 0x3f82u);
  EXPECT_EQ(Half(ToBf16(FromBits(0xbf808000))), 0xbf81u);
  EXPECT_EQ(Half(ToBf16(FromBits(0x3f807fff))), 0x3f80u);
}

TEST(ToBf16Test, BeyondTheLargestIsInfinityAndNotANumberStaysSo) {
  EXPECT_EQ(Half(ToBf16(std::numeric_limits<float>::max())), 0x7f80u);
  EXPECT_EQ(Half(ToBf16(-std::numeric_limits<float>::infinity())), 0xff80u);
  for (const uint32_t nan : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(FromBf16(ToBf16(FromBits(nan))))) << std::hex << nan;
  }
}

// What DESIGN.md §8 stores: the bf16 weight and the rest of the master as a signed 16-bit number.
TEST(ToBf16Test, AValueIsItsBf16AndASigned16BitRemainder) {
  std::mt19937 engine(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const uint32_t bits = engine();
    if (std::isnan(FromBits(bits)) || (bits & 0x7fffffffu) > 0x7f7f7fffu) continue;
    const uint32_t high = Half(ToBf16(FromBits(bits))) << 16;
    const auto remainder = static_cast<int32_t>(bits - high);
    ASSERT_GE(remainder, -0x8000);
    ASSERT_LT(remainder, 0x8000);
    ASSERT_EQ(high + static_cast<uint32_t>(static_cast<int16_t>(remainder)), bits);
  }
}

}  // namespace
}  // namespace strata::engine
