#include "engine/kernels/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "engine/checkpoint/float16.h"
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

TEST(CastTest, TheVectorFormRoundsAsToBf16OnEveryInstructionSet) {
  constexpr size_t kCols = 100'003;
  const TestMatrix from(DType::kF32, 1, kCols);
  std::mt19937 engine(2);
  for (size_t i = 0; i < kCols; ++i) from.floats()[i] = FromBits(engine());
  for (size_t i = 0; i < 16; ++i)
    from.floats()[i] = FromBits(0x7f7ffff8u + static_cast<uint32_t>(i));
  for (const std::string_view isa : InstructionSets()) {
    const TestMatrix to = Poisoned(DType::kBf16, 1, kCols);
    ExpectOk((*MakeCpuKernels(2, isa))->Cast(kStream, from, to));
    for (size_t i = 0; i < kCols; ++i) {
      ASSERT_EQ(reinterpret_cast<const Bf16*>(to.view().data)[i], ToBf16(from.floats()[i])) << isa;
    }
  }
}

// Against the arithmetic definition (engine/checkpoint/float16.h), which shares no code with the
// processor's conversion.
TEST(Fp16Test, EveryPatternIsTheFp32ThatItStandsForOnEveryInstructionSet) {
  const TestMatrix halves(DType::kF16, 1, 0x10000);
  for (uint32_t i = 0; i < 0x10000; ++i)
    reinterpret_cast<uint16_t*>(halves.view().data)[i] = uint16_t(i);
  for (const std::string_view isa : InstructionSets()) {
    const TestMatrix wide = Poisoned(DType::kF32, 1, 0x10000);
    ExpectOk((*MakeCpuKernels(2, isa))->Cast(kStream, halves, wide));
    for (uint32_t i = 0; i < 0x10000; ++i) {
      const float expected = FromF16(static_cast<uint16_t>(i));
      if (std::isnan(expected))
        ASSERT_TRUE(std::isnan(wide.floats()[i])) << i;
      else
        ASSERT_EQ(std::bit_cast<uint32_t>(wide.floats()[i]), std::bit_cast<uint32_t>(expected))
            << i;
    }
  }
}

// The nearest of the two halves around a value, the even one of two that are as near; infinity from
// 65520 on.
F16 NearestHalf(float value) {
  if (std::abs(value) >= 65520) return F16(value < 0 ? 0xfc00 : 0x7c00);
  uint32_t below = 0, above = 0x7bff;  // patterns of magnitudes, which grow with them
  const double magnitude = std::abs(double{value});
  while (above - below > 1) {
    const uint32_t middle = (below + above) / 2;
    (FromF16(static_cast<uint16_t>(middle)) <= magnitude ? below : above) = middle;
  }
  if (FromF16(static_cast<uint16_t>(above)) <= magnitude) below = above;
  const double down = magnitude - double{FromF16(static_cast<uint16_t>(below))};
  const double up = double{FromF16(static_cast<uint16_t>(above))} - magnitude;
  const uint32_t nearest = down < up ? below : up < down ? above : below % 2 == 0 ? below : above;
  return F16(nearest | (std::signbit(value) ? 0x8000u : 0));
}

TEST(Fp16Test, CastsRoundToTheNearestOnEveryInstructionSet) {
  constexpr size_t kCols = 50'003;
  const TestMatrix from(DType::kF32, 1, kCols);
  std::mt19937 engine(3);
  // Around what fp16 can hold: 2^-26 to 2^17, and ties in every binade.
  for (size_t i = 0; i < kCols; ++i) {
    const uint32_t exponent = 127 - 26 + engine() % 44;
    const uint32_t mantissa = i % 3 == 0 ? (engine() % 2048) << 12 : engine() & 0x7fffff;
    from.floats()[i] = FromBits((engine() & 0x80000000u) | exponent << 23 | mantissa);
  }
  for (const std::string_view isa : InstructionSets()) {
    const TestMatrix to = Poisoned(DType::kF16, 1, kCols);
    ExpectOk((*MakeCpuKernels(2, isa))->Cast(kStream, from, to));
    for (size_t i = 0; i < kCols; ++i) {
      ASSERT_EQ(reinterpret_cast<const F16*>(to.view().data)[i], NearestHalf(from.floats()[i]))
          << isa << " " << from.floats()[i];
    }
  }
}

}  // namespace
}  // namespace strata::engine
