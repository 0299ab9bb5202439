// Format split against format fp32: every master weight there is, and whole trajectories.
#include "engine/optimizer/split_master.h"

#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "engine/optimizer/adam.h"

namespace strata::engine {
namespace {

constexpr size_t kTile = 65536;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t kTileStride = 61;
#else
constexpr uint32_t kTileStride = 1;
#endif

// The 65536 numbers that share their upper half: what they are, and how they are split, without a
// cast: below the middle the lower half is the remainder, from the middle on (ties go away from
// zero) the upper half is one more, and the remainder counts back from there.
struct Tile {
  Tile() : numbers(kTile), weight(kTile), remainder(kTile), m(kTile), v(kTile), gradient(kTile) {
    for (size_t i = 0; i < kTile; ++i) {
      expected_remainder.push_back(
          static_cast<int16_t>(static_cast<int32_t>(i) - (i < kTile / 2 ? 0 : 65536)));
    }
  }

  void Fill(uint32_t upper) {
    for (uint32_t i = 0; i < kTile; ++i) numbers[i] = upper << 16 | i;
    std::fill_n(weight.begin(), kTile / 2, static_cast<uint16_t>(upper));
    std::fill_n(weight.begin() + kTile / 2, kTile / 2, static_cast<uint16_t>(upper + 1));
    expected_weight = weight;
    remainder = expected_remainder;
    std::fill(m.begin(), m.end(), 0.0f);
    std::fill(v.begin(), v.end(), 0.0f);
  }

  AdamSlices Slices() {
    return {.format = StateFormat::kSplit,
            .master = reinterpret_cast<std::byte*>(remainder.data()),
            .m = reinterpret_cast<std::byte*>(m.data()),
            .v = reinterpret_cast<std::byte*>(v.data()),
            .gradient = reinterpret_cast<const std::byte*>(gradient.data()),
            .gradient_dtype = DType::kBf16,
            .weight = reinterpret_cast<std::byte*>(weight.data()),
            .num_elements = kTile};
  }

  std::vector<uint32_t> numbers;
  std::vector<uint16_t> weight, expected_weight;
  std::vector<int16_t> remainder, expected_remainder;
  std::vector<float> m, v;
  std::vector<uint16_t> gradient;
};

template <typename A, typename B>
bool SameBits(const std::vector<A>& a, const std::vector<B>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(A)) == 0;
}

// A step of no length, with the L2 gradient 1 * p as all of m: p must come back as it was, and m
// shows what the kernel took it for.
AdamScalars ShowMasterInM() {
  return {.mode = AdamMode::kAdam,
          .gradient_scale = 1,
          .beta1 = 0,
          .one_minus_beta1 = 1,
          .beta2 = 1,
          .one_minus_beta2 = 1,
          .eps = 1,
          .step_size = 0,
          .inv_sqrt_bias2 = 1,
          .l2 = 1};
}

// Whether the kernel joins and splits all numbers of the tile right.
bool IsLossless(std::string_view isa, uint32_t upper, Tile& tile) {
  tile.Fill(upper);
  AdamStepWith(isa, ShowMasterInM(), tile.Slices());
  if (upper == 0x8000) {  // 0 + -0 is 0
    EXPECT_EQ(tile.m[0], 0.0f);
    tile.m[0] = -0.0f;
  }
  return SameBits(tile.weight, tile.expected_weight) &&
         SameBits(tile.remainder, tile.expected_remainder) && SameBits(tile.m, tile.numbers);
}

// All 4278190080 of them: the upper half's exponent is not that of infinity.
TEST(SplitMasterTest, EveryFiniteMasterIsJoinedAndSplitWithoutLoss) {
  ThreadPool pool = ThreadPool::Create(2).value();
  std::vector<Tile> tiles(pool.num_threads());
  std::atomic<uint32_t> num_bad{0};
  const std::string_view best = AdamInstructionSets().back();
  pool.ParallelFor(65536 / kTileStride, [&](size_t i, uint32_t thread) {
    const auto upper = static_cast<uint32_t>(i * kTileStride);
    if ((upper & 0x7f80) == 0x7f80) return;
    if (!IsLossless(best, upper, tiles[thread])) ++num_bad;
  });
  EXPECT_EQ(num_bad, 0u);
}

TEST(SplitMasterTest, EveryInstructionSetSplitsAlike) {
  Tile tile;
  for (const std::string_view isa : AdamInstructionSets()) {
    for (uint32_t upper = 0; upper < 65536; upper += 251) {
      if ((upper & 0x7f80) == 0x7f80) continue;
      EXPECT_TRUE(IsLossless(isa, upper, tile)) << isa << " " << upper;
    }
  }
}

// What initial states, hashes and exports go through.
TEST(SplitMasterTest, TheScalarFunctionsAgreeWithTheDefinition) {
  Tile tile;
  for (uint32_t upper = 0; upper < 65536; upper += 13) {
    if ((upper & 0x7f80) == 0x7f80) continue;
    tile.Fill(upper);
    for (size_t i = 0; i < kTile; i += 37) {
      const auto value = std::bit_cast<float>(tile.numbers[i]);
      ASSERT_EQ(static_cast<uint16_t>(ToBf16(value)), tile.expected_weight[i]);
      ASSERT_EQ(RemainderOf(value), tile.expected_remainder[i]);
      ASSERT_EQ(std::bit_cast<uint32_t>(JoinMaster(ToBf16(value), RemainderOf(value))),
                tile.numbers[i]);
    }
  }
}

TEST(SplitMasterTest, InfinitiesAreKeptAndNaNStaysOne) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float value : {infinity, -infinity}) {
    EXPECT_EQ(JoinMaster(ToBf16(value), RemainderOf(value)), value);
  }
  for (const uint32_t bits : {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xffffffffu, 0xff808000u}) {
    const auto value = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(JoinMaster(ToBf16(value), RemainderOf(value)))) << bits;
  }
}

// One tensor in both formats.
struct Pair {
  explicit Pair(size_t n)
      : master(n), m(n), v(n), weight(n), remainder(n), split_m(n), split_v(n), split_weight(n) {}

  void Set(size_t i, float value) {
    master[i] = value;
    split_weight[i] = weight[i] = ToBf16(value);
    remainder[i] = RemainderOf(value);
  }
  AdamSlices Slices(StateFormat format, const std::byte* gradient, DType dtype) {
    const bool split = format == StateFormat::kSplit;
    const auto bytes = [](auto& array) { return reinterpret_cast<std::byte*>(array.data()); };
    return {.format = format,
            .master = split ? bytes(remainder) : bytes(master),
            .m = split ? bytes(split_m) : bytes(m),
            .v = split ? bytes(split_v) : bytes(v),
            .gradient = gradient,
            .gradient_dtype = dtype,
            .weight = split ? bytes(split_weight) : bytes(weight),
            .num_elements = master.size()};
  }
  bool AreEqual() const {
    std::vector<float> joined;
    for (size_t i = 0; i < master.size(); ++i) {
      joined.push_back(JoinMaster(split_weight[i], remainder[i]));
    }
    return SameBits(joined, master) && SameBits(split_m, m) && SameBits(split_v, v) &&
           SameBits(split_weight, weight);
  }

  std::vector<float> master, m, v;
  std::vector<Bf16> weight;
  std::vector<int16_t> remainder;
  std::vector<float> split_m, split_v;
  std::vector<Bf16> split_weight;
};

// Of any size from denormal to near overflow, and zero.
float AnySize(std::mt19937& engine) {
  std::uniform_real_distribution<float> mantissa(-2, 2);
  switch (engine() % 4) {
    case 0:
      return 0;
    case 1:
      return std::ldexp(mantissa(engine), -static_cast<int>(engine() % 24) - 126);
    case 2:
      return std::ldexp(mantissa(engine), static_cast<int>(engine() % 200) - 100);
    default:
      return mantissa(engine);
  }
}

class TrajectoryTest : public testing::TestWithParam<AdamMode> {};

TEST_P(TrajectoryTest, SplitFollowsFp32BitForBitWhateverTheSizes) {
  constexpr size_t kCount = 5003;
  std::mt19937 engine(5);
  for (const std::string_view isa : AdamInstructionSets()) {
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      Pair pair(kCount);
      for (size_t i = 0; i < kCount; ++i) pair.Set(i, AnySize(engine));
      std::vector<float> gradient(kCount);
      std::vector<Bf16> rounded(kCount);
      for (uint64_t t = 1; t <= 60; ++t) {
        for (size_t i = 0; i < kCount; ++i) {
          gradient[i] = AnySize(engine);
          rounded[i] = ToBf16(gradient[i]);
        }
        const auto* bytes = dtype == DType::kF32
                                ? reinterpret_cast<const std::byte*>(gradient.data())
                                : reinterpret_cast<const std::byte*>(rounded.data());
        const AdamScalars scalars =
            MakeAdamScalars({.mode = GetParam(), .weight_decay = 0.1}, 0.01, t, t % 3 ? 1 : 0.37);
        AdamStepWith("baseline", scalars, pair.Slices(StateFormat::kFp32, bytes, dtype));
        AdamStepWith(isa, scalars, pair.Slices(StateFormat::kSplit, bytes, dtype));
        ASSERT_TRUE(pair.AreEqual()) << isa << " " << DTypeName(dtype) << " step " << t;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, TrajectoryTest, testing::Values(AdamMode::kAdamW, AdamMode::kAdam),
                         [](const auto& tested) {
                           return tested.param == AdamMode::kAdamW ? "AdamW" : "Adam";
                         });

}  // namespace
}  // namespace strata::engine
