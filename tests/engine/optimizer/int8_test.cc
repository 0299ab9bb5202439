// 8-bit moments against a reference that knows them as numbers, not as bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/optimizer/adam.h"
#include "engine/optimizer/moment_codes.h"
#include "engine/optimizer/split_master.h"

namespace strata::engine {
namespace {

// The format's own arithmetic in doubles, from the words of moment_codes.h.
//
// Numbers are on a scale of eighths of powers of two: k is mantissa 1 + (k % 8) / 8 at the biased
// exponent k / 8, and what is in between lies on a straight line.
double OnScale(int k) {
  return k < 8 ? std::ldexp(k, -126 - 3) : std::ldexp(1 + (k % 8) / 8.0, k / 8 - 127);
}
double PositionOf(double magnitude) {
  if (magnitude < std::ldexp(1, -126)) return std::ldexp(magnitude, 126 + 3);
  int exponent = 0;
  const double mantissa = 2 * std::frexp(magnitude, &exponent);  // in [1, 2)
  return (mantissa - 1) * 8 + 8 * (exponent - 1 + 127);
}
// The lowest number of a block's range, which stands for code 0.
int Lowest(int scale, int powers) { return 8 * (scale + 1 - powers); }
int ScaleFor(double largest, int powers) {
  // Rounded up it must still have the scale's exponent.
  const int exponent = static_cast<int>(std::ceil(PositionOf(largest))) / 8;
  return std::clamp(exponent, powers - 1, 255);
}

uint32_t Hash(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

struct Block {
  std::vector<uint8_t> codes;
  uint8_t scale = 0;
};

double Decode(uint8_t code, int scale, bool is_m) {
  const int magnitude = is_m ? code & 127 : code;
  const double value = magnitude == 0 ? 0 : OnScale(Lowest(scale, is_m ? 16 : 32) + magnitude);
  return is_m && (code & 128) != 0 ? -value : value;
}

// `random` in [0, 65536) is what comes on top before the position is cut off.
uint8_t Encode(double value, int scale, bool is_m, uint32_t random) {
  const double position = PositionOf(std::abs(value)) + random / 65536.0;
  const int code = static_cast<int>(position) - Lowest(scale, is_m ? 16 : 32);
  if (is_m) {
    return static_cast<uint8_t>((std::signbit(value) ? 128 : 0) | std::clamp(code, 0, 127));
  }
  return static_cast<uint8_t>(value == 0 ? 0 : std::clamp(code, 1, 255));
}

// One tensor in format int8.
struct Tensor {
  explicit Tensor(size_t n)
      : remainder(n),
        weight(n),
        gradient(n),
        m(n),
        v(n),
        m_scale(n / 64 + 1),
        v_scale(n / 64 + 1) {}

  AdamSlices Slices(size_t first, size_t count, uint32_t dither) {
    return {.format = StateFormat::kInt8,
            .master = reinterpret_cast<std::byte*>(remainder.data() + first),
            .m = reinterpret_cast<std::byte*>(m.data() + first),
            .v = reinterpret_cast<std::byte*>(v.data() + first),
            .m_scales = m_scale.data() + first / 64,
            .v_scales = v_scale.data() + first / 64,
            .gradient = reinterpret_cast<const std::byte*>(gradient.data() + first),
            .gradient_dtype = DType::kBf16,
            .weight = reinterpret_cast<std::byte*>(weight.data() + first),
            .dither = dither + static_cast<uint32_t>(first),
            .num_elements = count};
  }
  AdamSlices Slices(uint32_t dither) { return Slices(0, weight.size(), dither); }

  float Master(size_t i) const { return JoinMaster(weight[i], remainder[i]); }
  double M(size_t i) const { return Decode(m[i], m_scale[i / 64], true); }
  double V(size_t i) const { return Decode(v[i], v_scale[i / 64], false); }
  bool operator==(const Tensor& other) const = default;

  std::vector<int16_t> remainder;
  std::vector<Bf16> weight, gradient;
  std::vector<uint8_t> m, v, m_scale, v_scale;
};

// Gradients whose sizes differ by up to 2^40 within a block, so that codes run out below, and
// zeros.
void NewGradient(Tensor& tensor, std::mt19937& engine) {
  std::normal_distribution<float> normal;
  for (Bf16& g : tensor.gradient) {
    g = ToBf16(engine() % 8 == 0 ? 0
                                 : std::ldexp(normal(engine), -static_cast<int>(engine() % 40)));
  }
}

Tensor SomeTensor(size_t n) {
  std::mt19937 engine(static_cast<uint32_t>(n));
  std::normal_distribution<float> normal;
  Tensor tensor(n);
  for (size_t i = 0; i < n; ++i) {
    const float p = normal(engine);
    tensor.weight[i] = ToBf16(p);
    tensor.remainder[i] = RemainderOf(p);
  }
  NewGradient(tensor, engine);
  return tensor;
}

// The same step: fp32 Adam on the decoded moments, block by block rounded as the format says.
Tensor ReferenceStep(const AdamScalars& scalars, const Tensor& before, uint32_t dither) {
  const size_t n = before.weight.size();
  std::vector<float> p(n), m(n), v(n);
  for (size_t i = 0; i < n; ++i) {
    p[i] = before.Master(i);
    m[i] = static_cast<float>(before.M(i));
    v[i] = static_cast<float>(before.V(i));
  }
  Tensor after = before;
  AdamStepWith("baseline", scalars,
               {.master = reinterpret_cast<std::byte*>(p.data()),
                .m = reinterpret_cast<std::byte*>(m.data()),
                .v = reinterpret_cast<std::byte*>(v.data()),
                .gradient = reinterpret_cast<const std::byte*>(before.gradient.data()),
                .gradient_dtype = DType::kBf16,
                .weight = reinterpret_cast<std::byte*>(after.weight.data()),
                .num_elements = n});
  for (size_t first = 0; first < n; first += 64) {
    const size_t end = std::min(first + 64, n);
    double largest_m = 0, largest_v = 0;
    for (size_t i = first; i < end; ++i) {
      after.remainder[i] = RemainderOf(p[i]);
      largest_m = std::max(largest_m, std::abs(static_cast<double>(m[i])));
      largest_v = std::max(largest_v, static_cast<double>(v[i]));
    }
    const int m_scale = ScaleFor(largest_m, 16), v_scale = ScaleFor(largest_v, 32);
    after.m_scale[first / 64] = static_cast<uint8_t>(m_scale);
    after.v_scale[first / 64] = static_cast<uint8_t>(v_scale);
    for (size_t i = first; i < end; ++i) {
      const uint32_t random = Hash(dither + static_cast<uint32_t>(i));
      after.m[i] = Encode(m[i], m_scale, true, random >> 16);
      after.v[i] = Encode(v[i], v_scale, false, random & 0xffff);
    }
  }
  return after;
}

void ExpectSame(const Tensor& actual, const Tensor& expected, const std::string& where) {
  if (actual == expected) return;
  for (size_t i = 0; i < actual.weight.size(); ++i) {
    ASSERT_EQ(actual.m_scale[i / 64], expected.m_scale[i / 64]) << where << " block of " << i;
    ASSERT_EQ(actual.v_scale[i / 64], expected.v_scale[i / 64]) << where << " block of " << i;
    ASSERT_EQ(actual.m[i], expected.m[i]) << where << " m of " << i;
    ASSERT_EQ(actual.v[i], expected.v[i]) << where << " v of " << i;
    ASSERT_EQ(actual.Master(i), expected.Master(i)) << where << " master of " << i;
    ASSERT_EQ(actual.weight[i], expected.weight[i]) << where << " weight of " << i;
  }
  FAIL() << where;
}

TEST(Int8Test, EveryInstructionSetAndLengthFollowsTheReferenceElementByElement) {
  for (const AdamMode mode : {AdamMode::kAdamW, AdamMode::kAdam}) {
    for (size_t n : {0, 1, 5, 63, 64, 65, 127, 128, 192, 300, 1021}) {
      for (const std::string_view isa : AdamInstructionSets()) {
        std::mt19937 engine(9);
        Tensor tensor = SomeTensor(n);
        for (uint64_t t = 1; t <= 12; ++t) {
          const AdamScalars scalars = MakeAdamScalars({.mode = mode}, 1e-2, t, 0.7);
          const uint32_t dither = DitherSeed(t, 3);
          const Tensor expected = ReferenceStep(scalars, tensor, dither);
          AdamStepWith(isa, scalars, tensor.Slices(dither));
          ExpectSame(tensor, expected,
                     std::string(isa) + " n=" + std::to_string(n) + " t=" + std::to_string(t));
          if (HasFatalFailure()) return;
          NewGradient(tensor, engine);
        }
      }
    }
  }
}

// From denormal moments to squares that are nearly infinite.
TEST(Int8Test, GradientsOfAnySizeFollowTheReference) {
  for (const int exponent : {-133, -120, -70, -64, -20, 60}) {
    Tensor tensor = SomeTensor(256);
    for (Bf16& g : tensor.gradient) g = ToBf16(std::ldexp(FromBf16(g), exponent));
    for (uint64_t t = 1; t <= 3; ++t) {
      const AdamScalars scalars = MakeAdamScalars({}, 1e-2, t, 1);
      const Tensor expected = ReferenceStep(scalars, tensor, 0);
      AdamStepWith(AdamInstructionSets().back(), scalars, tensor.Slices(0));
      ExpectSame(tensor, expected, std::to_string(exponent));
    }
  }
}

TEST(Int8Test, ThreadsAndSlicingDoNotShowInTheBits) {
  constexpr size_t kCount = 200'000;
  const Tensor before = SomeTensor(kCount);
  const AdamScalars scalars = MakeAdamScalars({}, 1e-3, 4, 1);
  Tensor expected = before;
  AdamStepWith("baseline", scalars, expected.Slices(77));
  for (const uint32_t num_threads : {1u, 2u, 5u}) {
    ThreadPool pool = ThreadPool::Create(num_threads).value();
    Tensor after = before;
    AdamStep(scalars, after.Slices(77), pool);
    EXPECT_TRUE(after == expected) << num_threads;
    // As a unit that is cut elsewhere would have it.
    Tensor sliced = before;
    for (size_t first = 0; first < kCount; first += 64 * 999) {
      AdamStep(scalars, sliced.Slices(first, std::min<size_t>(64 * 999, kCount - first), 77), pool);
    }
    EXPECT_TRUE(sliced == expected) << num_threads;
  }
}

TEST(MomentCodesTest, DecodingIsTheNumberOfTheScale) {
  for (int scale = 0; scale < 255; ++scale) {  // 255: infinity
    const auto as_scale = static_cast<uint8_t>(scale);
    for (int code = 0; code < 256; ++code) {
      const auto as_code = static_cast<uint8_t>(code);
      if (scale >= 15) {
        ASSERT_EQ(DecodeM(code, CodeBase(as_scale, kMCodes)),
                  static_cast<float>(Decode(as_code, scale, true)));
      }
      if (scale >= 31) {
        ASSERT_EQ(DecodeV(code, CodeBase(as_scale, kVCodes)),
                  static_cast<float>(Decode(as_code, scale, false)));
      }
    }
  }
}

// Else v, which moves by a thousandth of itself, would stand still, or drift.
TEST(MomentCodesTest, RoundingIsRightOnAverageAndNeverOffByMoreThanAnEighth) {
  std::mt19937 engine(3);
  std::uniform_real_distribution<float> mantissa(1, 2);
  constexpr int kDraws = 4000;
  for (int i = 0; i < 200; ++i) {
    const float value = std::ldexp(mantissa(engine), -static_cast<int>(engine() % 14));
    const int32_t m_base = CodeBase(ScaleOf(std::bit_cast<uint32_t>(2.0f), kMCodes), kMCodes);
    const int32_t v_base = CodeBase(ScaleOf(std::bit_cast<uint32_t>(2.0f), kVCodes), kVCodes);
    double sum_m = 0, sum_v = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
      const uint32_t random = DitherBits(engine());
      const float m = -DecodeM(EncodeM(-value, m_base, DitherOfM(random)), m_base);
      const float v = DecodeV(EncodeV(value, v_base, DitherOfV(random)), v_base);
      ASSERT_LE(std::abs(m - value), value / 8);
      ASSERT_LE(std::abs(v - value), value / 8);
      sum_m += m;
      sum_v += v;
    }
    // A draw is off by at most half a step (1/16 of the value) in the root mean square; five
    // standard deviations of their mean.
    const double tolerance = 5 * value / 16 / std::sqrt(kDraws);
    EXPECT_NEAR(sum_m / kDraws, value, tolerance);
    EXPECT_NEAR(sum_v / kDraws, value, tolerance);
  }
}

// What m is divided by comes out of the range at its lower end, not as zero.
TEST(MomentCodesTest, AVBelowTheRangeIsHeldAndOnlyZeroIsZero) {
  const int32_t base = CodeBase(ScaleOf(std::bit_cast<uint32_t>(1.0f), kVCodes), kVCodes);
  const float lowest = DecodeV(1, base);
  EXPECT_EQ(lowest, std::ldexp(1.125f, -31));
  for (const float v : {1e-45f, 1e-30f, lowest / 2, lowest}) {
    EXPECT_EQ(DecodeV(EncodeV(v, base, 0), base), lowest) << v;
  }
  EXPECT_EQ(EncodeV(0, base, 0xfffff), 0);
}

// A thousandth less per step is far less than a code: rounded to nearest, v would never come down.
TEST(Int8Test, VFollowsItsDecayOverThousandsOfSteps) {
  constexpr size_t kCount = 64 * 64;
  Tensor tensor(kCount);
  std::vector<float> v(kCount);
  for (uint64_t t = 1; t <= 3000; ++t) {
    std::fill(tensor.gradient.begin(), tensor.gradient.end(), ToBf16(t <= 1000 ? 1.0f : 0.0f));
    AdamStepWith(AdamInstructionSets().back(), MakeAdamScalars({}, 0, t, 1),
                 tensor.Slices(DitherSeed(t, 0)));
  }
  double sum = 0;
  for (size_t i = 0; i < kCount; ++i) sum += tensor.V(i);
  const double expected = (1 - std::pow(0.999, 1000)) * std::pow(0.999, 2000);
  // Each v wanders (by some 25 % here), their mean of 4096 by a 64th of that; 2 % is five times it.
  EXPECT_NEAR(sum / kCount, expected, 0.02 * expected);
}

}  // namespace
}  // namespace strata::engine
