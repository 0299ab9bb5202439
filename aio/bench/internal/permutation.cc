#include "aio/bench/internal/permutation.h"

#include <algorithm>
#include <bit>
#include <random>

#include "aio/base/check.h"

namespace strata::aio {

Permutation::Permutation(uint64_t size, uint64_t seed)
    : size_(size), half_bits_(static_cast<int>(std::max<uint64_t>(1, (std::bit_width(size - 1) + 1) / 2))) {
  STRATA_CHECK(size > 0);
  std::mt19937_64 random(seed);
  for (uint64_t& key : keys_) key = random();
}

// A Feistel network: whatever it mixes in, every round can be undone, so no two values meet.
uint64_t Permutation::Shuffle(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t key : keys_) {
    uint64_t mixed = (right + key) * 0x9e3779b97f4a7c15;
    left ^= (mixed >> 32) & mask;
    std::swap(left, right);
  }
  return (left << half_bits_) | right;
}

// The network permutes a power of four of values, at most four times as many as wanted; following
// it until it comes back into the range keeps it a permutation of that.
uint64_t Permutation::At(uint64_t index) const {
  STRATA_CHECK(index < size_);
  uint64_t value = Shuffle(index);
  while (value >= size_) value = Shuffle(value);
  return value;
}

}  // namespace strata::aio
