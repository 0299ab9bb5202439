#include "engine/checkpoint/normal.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

#include "engine/checkpoint/philox.h"

namespace strata::engine {
namespace {

std::vector<float> Normals(const NormalSequence& sequence, uint64_t first, size_t count) {
  std::vector<float> numbers(count);
  FillNormal(sequence, first, numbers);
  return numbers;
}

// Box-Muller as the textbook has it, with the math library.
std::vector<double> Textbook(const NormalSequence& sequence, uint32_t num_counters) {
  std::vector<double> numbers;
  for (uint32_t index = 0; index < num_counters; ++index) {
    PhiloxCounter uniform = Philox4x32({index, 0, static_cast<uint32_t>(sequence.stream), 0},
                                       {static_cast<uint32_t>(sequence.seed), 0});
    for (int i : {0, 2}) {
      double radius = std::sqrt(-2 * std::log((uniform[i] + 1.0) / 0x1p32));
      double angle = 2 * std::numbers::pi * uniform[i + 1] / 0x1p32;
      numbers.push_back(sequence.standard_deviation * radius * std::cos(angle));
      numbers.push_back(sequence.standard_deviation * radius * std::sin(angle));
    }
  }
  return numbers;
}

TEST(NormalTest, AgreesWithTheMathLibrary) {
  NormalSequence sequence = {.seed = 7, .stream = 11, .standard_deviation = 0.02};
  std::vector<double> expected = Textbook(sequence, 25'000);
  std::vector<float> actual = Normals(sequence, 0, expected.size());
  // Half a unit in the last place of fp32 is 2^-24 of a number. Near a zero of the cosine the angle
  // itself, rounded at 2^-53 of up to 2 pi, shows in the textbook's number: hence the absolute
  // part.
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], std::abs(expected[i]) * 0x1.01p-24 + 1e-16) << i;
}

TEST(NormalTest, AnySliceHasTheBitsOfTheWhole) {
  NormalSequence sequence = {.seed = 1, .stream = 2, .standard_deviation = 1};
  std::vector<float> whole = Normals(sequence, 0, 4099);
  uint32_t state = 1;
  for (int trial = 0; trial < 500; ++trial) {
    state = state * 1664525 + 1013904223;
    size_t first = (state >> 8) % whole.size();
    size_t count = (state >> 20) % (whole.size() - first + 1);
    std::vector<float> slice = Normals(sequence, first, count);
    ASSERT_TRUE(std::equal(slice.begin(), slice.end(), whole.begin() + static_cast<long>(first)))
        << "first " << first << " count " << count;
  }
}

TEST(NormalTest, HasMeanZeroAndTheStandardDeviationAskedFor) {
  constexpr size_t kCount = 4'000'000;
  std::vector<float> numbers = Normals({.seed = 3, .standard_deviation = 0.5}, 0, kCount);
  double sum = 0, squares = 0, largest = 0;
  for (double x : numbers) {
    sum += x;
    squares += x * x;
    largest = std::max(largest, std::abs(x));
  }
  // Five standard errors: 0.5 / sqrt(n) of the mean, 0.5 / sqrt(2 n) of the deviation.
  double mean = sum / kCount;
  EXPECT_NEAR(mean, 0, 5 * 0.5 / std::sqrt(1. * kCount));
  EXPECT_NEAR(std::sqrt(squares / kCount), 0.5, 5 * 0.5 / std::sqrt(2. * kCount));
  EXPECT_GT(largest, 0.5 * 4.5);
  EXPECT_LT(largest, 0.5 * 6.7);
}

TEST(NormalTest, SeedsAndStreamsGiveDifferentNumbers) {
  std::vector<float> numbers = Normals({.seed = 1, .stream = 2}, 0, 64);
  for (NormalSequence other : {NormalSequence{.seed = 2, .stream = 1},
                               {.seed = 1, .stream = 3},
                               {.seed = 1ULL << 32 | 1, .stream = 2},
                               {.seed = 1, .stream = 1ULL << 32 | 2}}) {
    std::vector<float> others = Normals(other, 0, 64);
    for (size_t i = 0; i < 64; ++i) EXPECT_NE(numbers[i], others[i]) << i;
  }
}

TEST(NormalTest, FarElementsDifferFromNearOnes) {
  NormalSequence sequence = {.seed = 1};
  EXPECT_NE(Normals(sequence, 0, 8), Normals(sequence, uint64_t{1} << 34, 8));
}

// A run that is repeated on another machine, or after an update of Strata, starts from these bits.
TEST(NormalTest, TheBitsNeverChange) {
  std::vector<float> numbers =
      Normals({.seed = 42, .stream = 5, .standard_deviation = 0.02}, 0, 1'000'000);
  EXPECT_EQ(std::bit_cast<uint32_t>(numbers[0]), 3165020616u);
  EXPECT_EQ(XXH3_64bits(numbers.data(), numbers.size() * sizeof(float)), 12272221880935359091u);
}

}  // namespace
}  // namespace strata::engine
