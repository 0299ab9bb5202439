#include "aio/bench/internal/permutation.h"

#include <gtest/gtest.h>

#include <vector>

namespace strata::aio {
namespace {

TEST(PermutationTest, VisitsEveryNumberOnceForEverySize) {
  for (uint64_t size = 1; size <= 300; ++size) {
    Permutation permutation(size, size);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      ASSERT_LT(permutation.At(i), size);
      ASSERT_FALSE(seen[permutation.At(i)]) << size;
      seen[permutation.At(i)] = true;
    }
  }
}

// A drive must not see a pattern in it: neighbours are hardly ever neighbours again.
TEST(PermutationTest, SeparatesNeighboursAndDependsOnTheSeed) {
  Permutation one(100000, 1), two(100000, 2);
  int neighbours = 0, equal = 0;
  for (uint64_t i = 0; i + 1 < one.size(); ++i) {
    neighbours += one.At(i + 1) == one.At(i) + 1;
    equal += one.At(i) == two.At(i);
  }
  EXPECT_LT(neighbours, 20);
  EXPECT_LT(equal, 20);
}

}  // namespace
}  // namespace strata::aio
