// An fp32 in 16 + 16 bits: the bf16 it rounds to, and the distance from there in units of the last
// place.
//
// No finite value is lost, as bf16 is rounded ties away from zero: the distance of the bits, as
// integers, is then in [-0x8000, 0x7fff], which is an int16. (Of ties to even it would be in
// [-0x8000, 0x8000].) Infinities are kept, too; a NaN stays one.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/kernels/dtype.h"

namespace strata::engine {

constexpr int16_t RemainderOf(float value, Bf16 rounded) {
  return static_cast<int16_t>(std::bit_cast<uint32_t>(value) -
                              (static_cast<uint32_t>(rounded) << 16));
}
constexpr int16_t RemainderOf(float value) { return RemainderOf(value, ToBf16(value)); }

constexpr float JoinMaster(Bf16 rounded, int16_t remainder) {
  return std::bit_cast<float>((static_cast<uint32_t>(rounded) << 16) +
                              static_cast<uint32_t>(int32_t{remainder}));
}

}  // namespace strata::engine
