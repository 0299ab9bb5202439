#include "engine/data/internal/permutation.h"

#include <bit>

#include "aio/base/check.h"

namespace strata::engine::data_internal {
namespace {

// Enough for small sizes, too, where each round mixes few bits.
constexpr int kRounds = 8;

// SplitMix64's finaliser (Steele, Lea & Flood 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t Feistel(uint64_t value, int half_bits, uint64_t key) {
  uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (int round = 0; round < kRounds; ++round) {
    uint64_t round_key = Mix(key + static_cast<uint64_t>(round));
    uint64_t next = left ^ (Mix(right ^ round_key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

uint64_t Permute(uint64_t index, uint64_t size, uint64_t key) {
  STRATA_CHECK(index < size && size <= uint64_t{1} << 62);
  if (size == 1) return 0;
  int half_bits = (std::bit_width(size - 1) + 1) / 2;
  do {
    index = Feistel(index, half_bits, key);
  } while (index >= size);
  return index;
}

uint64_t EpochKey(uint64_t seed, uint64_t epoch) { return Mix(Mix(seed) ^ epoch); }

}  // namespace strata::engine::data_internal
