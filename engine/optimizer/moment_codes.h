// m and v in 8 bits: small floating-point numbers whose exponents count from a scale of their
// block.
//
// A block is kScaledElements (64) elements. Its scale is the biased fp32 exponent of its largest
// magnitude. A code counts eighths of a power of two downwards from there, as the top bits of an
// fp32 do (three bits of mantissa):
//
//   m   sign, then 7 bits:  0, or 16 powers of two below the scale's, down to 2^-15 of it
//   v   8 bits:             0, or 32 powers of two, down to 2^-31
//
// so that both moments reach equally far down, as Adam divides m by sqrt(v), and both are off by at
// most an eighth whatever their size, where a linear code has nothing left for the small ones. An m
// below the range becomes 0. A v below it becomes the smallest code, and is 0 only if it was: what
// m is divided by may come out larger than it was, never as 0.
//
// Both are rounded stochastically: v moves by a thousandth of itself per step (beta2 = 0.999),
// which rounding to nearest would drop, and a v that went up would never come down again. The
// random bits are a hash of the step and the element's place in its unit: the same on every
// machine, for every number of threads and every tile.
//
// Block-wise scales and a code that is not linear are from "8-bit Optimizers via Block-wise
// Quantization" (Dettmers et al. 2021, arXiv 2110.02861); block exponents with small floats below
// them are those of the OCP Microscaling formats (2023). Theirs is a code of decades and a table
// look-up; this one is a shift and an addition, which every instruction set has.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/optimizer/state_format.h"

namespace strata::engine {

// In every caller's own code: kernels of several instruction sets call these, and a copy that they
// shared could be one that this machine cannot run.
#define STRATA_INLINE [[gnu::always_inline]] constexpr

// A code stands for 2^kDroppedBits consecutive fp32 numbers.
constexpr uint32_t kDroppedBits = 20;
constexpr int32_t kCodesPerExponent = 1 << (23 - kDroppedBits);
constexpr int32_t kMCodes = 128;  // of magnitudes
constexpr int32_t kVCodes = 256;

// The scale of a block whose largest magnitude has these bits, for a code of num_codes magnitudes:
// rounding up must not leave the range.
STRATA_INLINE uint8_t ScaleOf(uint32_t largest_bits, int32_t num_codes) {
  const auto exponent = static_cast<int32_t>((largest_bits + (1u << kDroppedBits) - 1) >> 23);
  const int32_t least = num_codes / kCodesPerExponent - 1;
  return static_cast<uint8_t>(exponent < least ? least : exponent > 255 ? 255 : exponent);
}
// The code of a magnitude is what is left of its bits, less this.
STRATA_INLINE int32_t CodeBase(uint8_t scale, int32_t num_codes) {
  const int32_t base = (scale + 1) * kCodesPerExponent - num_codes;
  return base < 0 ? 0 : base;
}

// Uniform in [0, 2^32): "lowbias32" (Wellons, 2018) over a counter.
STRATA_INLINE uint32_t DitherBits(uint32_t counter) {
  uint32_t x = counter;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
// What is added before bits are dropped, of one random number for both moments.
STRATA_INLINE uint32_t DitherOfM(uint32_t random) { return (random >> 16) << (kDroppedBits - 16); }
STRATA_INLINE uint32_t DitherOfV(uint32_t random) {
  return (random & 0xffffu) << (kDroppedBits - 16);
}

// Codes as numbers of 32 bits: kernels narrow many of them at once. v >= 0.
STRATA_INLINE int32_t EncodeM(float m, int32_t base, uint32_t dither) {
  const uint32_t bits = std::bit_cast<uint32_t>(m);
  const int32_t code = static_cast<int32_t>(((bits & 0x7fffffffu) + dither) >> kDroppedBits) - base;
  const int32_t magnitude = code < 0 ? 0 : code < kMCodes ? code : kMCodes - 1;
  return static_cast<int32_t>(bits >> 31 << 7) | magnitude;
}
STRATA_INLINE int32_t EncodeV(float v, int32_t base, uint32_t dither) {
  const uint32_t bits = std::bit_cast<uint32_t>(v);
  const int32_t code = static_cast<int32_t>((bits + dither) >> kDroppedBits) - base;
  const int32_t kept = code < 1 ? 1 : code < kVCodes ? code : kVCodes - 1;
  return bits == 0 ? 0 : kept;
}

STRATA_INLINE float DecodeV(int32_t code, int32_t base) {
  return std::bit_cast<float>(code == 0 ? 0 : (code + base) << kDroppedBits);
}
STRATA_INLINE float DecodeM(int32_t code, int32_t base) {
  const auto magnitude = std::bit_cast<uint32_t>(DecodeV(code & 0x7f, base));
  return std::bit_cast<float>(static_cast<uint32_t>(code & 0x80) << 24 | magnitude);
}

#undef STRATA_INLINE

}  // namespace strata::engine
