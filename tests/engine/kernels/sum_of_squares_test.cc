// Kernels::SumOfSquares() and RoundAndSumSquares().
#include <bit>
#include <limits>

#include "tests/engine/kernels/kernels_rig.h"
#include "tests/engine/kernels/kernels_testing.h"

namespace strata::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One after the other: what the sums mean, not their order.
double PlainSum(const TestMatrix& x) { return Dot(x, x); }

using Numbers = std::span<const std::byte>;

double SumOf(Kernels& kernels, const TestMatrix& x) {
  double squares = -1;
  ExpectOk(kernels.SumOfSquares(kStream, Numbers(x.view().data, x.cols() * SizeOf(x.dtype())),
                                x.dtype(), &squares, {}));
  return squares;
}

double Round(Kernels& kernels, const TestMatrix& from, const TestMatrix& to) {
  double squares = -1;
  ExpectOk(kernels.RoundAndSumSquares(kStream, {from.floats(), from.cols()}, to.view().data,
                                      to.dtype(), &squares, {}));
  return squares;
}

using SumOfSquaresTest = WithTestKernels<testing::Test>;

TEST_F(SumOfSquaresTest, IsTheSumInDouble) {
  for (const size_t n : {0u, 1u, 17u, 65536u, 200'003u}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      const TestMatrix x = Random(1, dtype, 1, n);
      const double plain = PlainSum(x);
      EXPECT_NEAR(SumOf(*kernels_, x), plain, 1e-12 * plain);
    }
  }
}

// On the host one call sums at most 256 pieces of 65536 before it starts over.
TEST_F(SumOfSquaresTest, MoreThan16MillionElementsAreAllCounted) {
  const std::vector<Bf16> ones(256 * 65536 + 70'000, ToBf16(1));
  double squares = -1;
  ExpectOk(
      kernels_->SumOfSquares(kStream, std::as_bytes(std::span(ones)), DType::kBf16, &squares, {}));
  EXPECT_EQ(squares, static_cast<double>(ones.size()));
}

TEST_F(SumOfSquaresTest, AGradientThatIsNotFiniteShowsAndALargeOneDoesNotOverflow) {
  TestMatrix x = Filled(DType::kF32, 1, 1000, 3e38);
  EXPECT_TRUE(std::isfinite(SumOf(*kernels_, x)));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -kInfinity}) {
    x.Set(0, 999, static_cast<double>(bad));
    EXPECT_FALSE(std::isfinite(SumOf(*kernels_, x)));
  }
}

class RoundAndSumSquares : public WithTestKernels<testing::TestWithParam<DType>> {};

TEST_P(RoundAndSumSquares, HasTheBitsOfACastAndASumAfterIt) {
  for (const size_t n : {1u, 15u, 16u, 17u, 65536u, 200'003u}) {
    SCOPED_TRACE(n);
    const TestMatrix from = Random(2, DType::kF32, 1, n);
    const TestMatrix expected = Poisoned(GetParam(), 1, n);
    ExpectOk(kernels_->Cast(kStream, from, expected));
    // Something beyond the end, which must stay.
    const TestMatrix rounded = Poisoned(GetParam(), 1, n, /*padding=*/1);
    EXPECT_EQ(Round(*kernels_, from, rounded), SumOf(*kernels_, expected));
    EXPECT_TRUE(rounded.SameBits(expected));
    EXPECT_TRUE(std::isnan(rounded.Get(0, n)));
  }
}

float CastOfOne(float value, DType dtype) {
  return dtype == DType::kBf16 ? FromBf16(ToBf16(value)) : FromHalf(ToHalf(value));
}

// Against a loop that shares nothing with the kernels: every upper half of an fp32 number, with
// lower halves around a tie. What is not finite, or becomes so, is not counted here.
TEST_P(RoundAndSumSquares, RoundsEveryNumberAsTheCastOfOneDoes) {
  constexpr uint32_t kLowerHalves[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  constexpr size_t kNumbers = 65536;
  const TestMatrix from(DType::kF32, 1, kNumbers), rounded = Poisoned(GetParam(), 1, kNumbers);
  for (const uint32_t lower : kLowerHalves) {
    double expected_sum = 0;
    for (uint32_t upper = 0; upper < kNumbers; ++upper) {
      const float value = std::bit_cast<float>(upper << 16 | lower);
      const float cast = CastOfOne(value, GetParam());
      from.floats()[upper] = std::isfinite(cast) ? value : 0;
      if (std::isfinite(cast))
        expected_sum += static_cast<double>(cast) * static_cast<double>(cast);
    }
    const double sum = Round(*kernels_, from, rounded);
    EXPECT_NEAR(sum, expected_sum, 1e-12 * expected_sum);
    for (size_t i = 0; i < kNumbers; ++i) {
      const float cast = CastOfOne(from.floats()[i], GetParam());
      ASSERT_EQ(std::bit_cast<uint32_t>(static_cast<float>(rounded.Get(0, i))),
                std::bit_cast<uint32_t>(cast))
          << from.floats()[i];
    }
  }
}

// In fp16 that is how an overflow is found: 65520 is what rounds to infinity.
TEST_P(RoundAndSumSquares, WhatIsNotFiniteOnceRoundedShows) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, 3.4e38f, 65520.0f}) {
    for (const size_t at : {0u, 40u, 70'000u}) {
      TestMatrix from = Random(3, DType::kF32, 1, 70'001);
      from.Set(0, at, static_cast<double>(bad));
      const TestMatrix rounded(GetParam(), 1, from.cols());
      const double squares = Round(*kernels_, from, rounded);
      const bool stays_finite = GetParam() == DType::kBf16 && bad == 65520.0f;
      EXPECT_EQ(std::isfinite(squares), stays_finite) << bad;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precision, RoundAndSumSquares, testing::Values(DType::kBf16, DType::kF16),
                         [](const auto& tested) { return NameOf(tested.param); });

}  // namespace
}  // namespace strata::engine
