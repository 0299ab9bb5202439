// Casts of many numbers at once, against casts of one and against what numbers of 16 bits stand
// for.
#include <bit>
#include <cmath>
#include <random>

#include "engine/checkpoint/float16.h"
#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// Of all kinds: the fixture only skips.
using CastTest = WithTestKernels<testing::Test>;

TEST_F(CastTest, RoundsAsToBf16) {
  constexpr size_t kCols = 100'003;
  const TestMatrix from(DType::kF32, 1, kCols);
  std::mt19937 engine(2);
  for (size_t i = 0; i < kCols; ++i) from.floats()[i] = FromBits(engine());
  for (size_t i = 0; i < 16; ++i)
    from.floats()[i] = FromBits(0x7f7ffff8u + static_cast<uint32_t>(i));
  for (const auto& kernels : MakeAllTestKernels()) {
    const TestMatrix to = Poisoned(DType::kBf16, 1, kCols);
    ExpectOk(kernels->Cast(kStream, from, to));
    for (size_t i = 0; i < kCols; ++i) {
      ASSERT_EQ(reinterpret_cast<const Bf16*>(to.view().data)[i], ToBf16(from.floats()[i]));
    }
  }
}

// Against the arithmetic definition (engine/checkpoint/float16.h), which shares no code with the
// processor's conversion.
TEST_F(CastTest, EveryFp16PatternIsTheFp32ThatItStandsFor) {
  const TestMatrix halves(DType::kF16, 1, 0x10000);
  for (uint32_t i = 0; i < 0x10000; ++i)
    reinterpret_cast<uint16_t*>(halves.view().data)[i] = uint16_t(i);
  for (const auto& kernels : MakeAllTestKernels()) {
    const TestMatrix wide = Poisoned(DType::kF32, 1, 0x10000);
    ExpectOk(kernels->Cast(kStream, halves, wide));
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

TEST_F(CastTest, RoundsToTheNearestFp16) {
  constexpr size_t kCols = 50'003;
  const TestMatrix from(DType::kF32, 1, kCols);
  std::mt19937 engine(3);
  // Around what fp16 can hold: 2^-26 to 2^17, and ties in every binade.
  for (size_t i = 0; i < kCols; ++i) {
    const uint32_t exponent = 127 - 26 + engine() % 44;
    const uint32_t mantissa = i % 3 == 0 ? (engine() % 2048) << 12 : engine() & 0x7fffff;
    from.floats()[i] = FromBits((engine() & 0x80000000u) | exponent << 23 | mantissa);
  }
  for (const auto& kernels : MakeAllTestKernels()) {
    const TestMatrix to = Poisoned(DType::kF16, 1, kCols);
    ExpectOk(kernels->Cast(kStream, from, to));
    for (size_t i = 0; i < kCols; ++i) {
      ASSERT_EQ(reinterpret_cast<const F16*>(to.view().data)[i], NearestHalf(from.floats()[i]))
          << from.floats()[i];
    }
  }
}

}  // namespace
}  // namespace strata::engine
