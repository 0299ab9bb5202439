// Number formats of tensors, and the casts to 16 bits.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace strata::engine {

enum class DType : uint8_t { kF32, kBf16, kF16 };
constexpr size_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
constexpr std::string_view DTypeName(DType dtype) {
  return dtype == DType::kF32 ? "fp32" : dtype == DType::kBf16 ? "bf16" : "fp16";
}

enum class Bf16 : uint16_t {};

constexpr float FromBf16(Bf16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// Round to nearest, ties away from zero: the one cast that splits an fp32 into 16 + 16 bits without
// loss (DESIGN.md §8). NaN stays NaN: a quiet bit is set where rounding could carry into the sign.
constexpr Bf16 ToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return Bf16((bits >> 16) | 0x0040u);
  return Bf16((bits + 0x8000u) >> 16);
}

// IEEE 754 half precision. Casts are the processor's: to nearest, ties to even; beyond 65504 (and
// half a step) it is infinity, which is what a loss scale looks for.
enum class F16 : uint16_t {};

inline float FromHalf(F16 value) { return static_cast<float>(std::bit_cast<_Float16>(value)); }
inline F16 ToHalf(float value) { return std::bit_cast<F16>(static_cast<_Float16>(value)); }

}  // namespace strata::engine
