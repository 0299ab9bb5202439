// The numbers 0 to n-1 in an order that looks random, without a table of them.
#pragma once

#include <array>
#include <cstdint>

namespace strata::aio {

// A value.
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t seed);  // of at least one number (CHECKed)

  uint64_t size() const { return size_; }
  uint64_t At(uint64_t index) const;  // index < size

 private:
  uint64_t Shuffle(uint64_t value) const;

  uint64_t size_;
  int half_bits_;
  std::array<uint64_t, 4> keys_;
};

}  // namespace strata::aio
