#include "engine/data/internal/permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace strata::engine::data_internal {
namespace {

void ExpectBijection(uint64_t size, uint64_t key) {
  std::vector<bool> is_hit(size);
  for (uint64_t index = 0; index < size; ++index) {
    uint64_t to = Permute(index, size, key);
    ASSERT_LT(to, size);
    ASSERT_FALSE(is_hit[to]) << "size " << size << " key " << key;
    is_hit[to] = true;
  }
}

TEST(Permutation, EveryIndexIsHitOnceForAnySize) {
  for (uint64_t size = 1; size <= 300; ++size)
    for (uint64_t key = 0; key < 4; ++key) ExpectBijection(size, key);
  for (uint64_t size : {1023u, 1024u, 1025u, 65536u, 100'003u}) ExpectBijection(size, 99);
}

TEST(Permutation, SizesBeyondMemoryStayInRange) {
  uint64_t size = (uint64_t{1} << 61) + 12345;
  for (uint64_t index = 0; index < 1000; ++index) EXPECT_LT(Permute(index, size, 5), size);
}

TEST(Permutation, EpochsAndSeedsAreShuffledDifferently) {
  constexpr uint64_t kSize = 1000;
  auto num_equal = [](uint64_t key_a, uint64_t key_b) {
    int equal = 0;
    for (uint64_t i = 0; i < kSize; ++i)
      equal += Permute(i, kSize, key_a) == Permute(i, kSize, key_b) ? 1 : 0;
    return equal;
  };
  // Two random permutations agree in one place on average; ten have a chance of 1e-7.
  EXPECT_LT(num_equal(EpochKey(1, 0), EpochKey(1, 1)), 10);
  EXPECT_LT(num_equal(EpochKey(1, 0), EpochKey(2, 0)), 10);
  EXPECT_LT(num_equal(EpochKey(1, 2), EpochKey(2, 1)), 10);
}

// Over many keys each index goes everywhere equally often: the sum of squared deviations is that of
// a fair die. 48 degrees of freedom: chi-squared is above 90 with a chance of 2e-4.
TEST(Permutation, NoPlaceIsPreferred) {
  constexpr uint64_t kSize = 7;
  constexpr int kKeys = 7000;
  std::vector<int> count(kSize * kSize);
  for (int key = 0; key < kKeys; ++key)
    for (uint64_t i = 0; i < kSize; ++i)
      ++count[i * kSize + Permute(i, kSize, EpochKey(static_cast<uint64_t>(key), 0))];
  double chi_squared = 0;
  constexpr double kExpected = kKeys / static_cast<double>(kSize);
  for (int seen : count) chi_squared += std::pow(seen - kExpected, 2) / kExpected;
  EXPECT_LT(chi_squared, 90);
}

// Resumed runs depend on it: a change of the shuffle is a change of every dataset's order. The
// numbers are a second implementation's, in Python.
TEST(Permutation, TheOrderIsTheSameOnEveryMachineAndInEveryVersion) {
  std::vector<uint64_t> order;
  for (uint64_t i = 0; i < 8; ++i) order.push_back(Permute(i, 8, EpochKey(42, 3)));
  EXPECT_EQ(order, (std::vector<uint64_t>{0, 6, 5, 2, 3, 1, 7, 4}));
}

}  // namespace
}  // namespace strata::engine::data_internal
