// Normal random numbers with the same bits on every machine.
//
// The math library's log, sin and cos may differ in the last bit between versions and processors,
// so they are not used: the transform is made of additions, multiplications, divisions and square
// roots in double precision, which IEEE 754 defines exactly, and is rounded to fp32 once.
#pragma once

#include <cstdint>
#include <span>

namespace strata::engine {

// Which sequence of numbers: every pair of these is an independent one.
struct NormalSequence {
  uint64_t seed = 0;
  uint64_t stream = 0;
  double standard_deviation = 1;
};

// Numbers [first, first + out.size()) of the sequence, mean 0. None is further out than 6.7
// standard deviations. Thread-safe.
void FillNormal(const NormalSequence& sequence, uint64_t first, std::span<float> out);

}  // namespace strata::engine
