// Sizes: literals for code, strict text for configs and flags, readable text for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "aio/base/status.h"

namespace strata {

inline namespace literals {
constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }
}  // namespace literals

constexpr uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr uint64_t CeilDiv(uint64_t value, uint64_t divisor) {
  return (value + divisor - 1) / divisor;
}

// "64MiB", "1.5GiB", "4096" (bytes), "512KiB", "2TiB". "64MB" and "64M" are errors, not guesses.
Result<uint64_t> ParseBytes(std::string_view text);

// "64 MiB", "1.50 GiB", "312 B": three significant digits.
std::string FormatBytes(uint64_t bytes);

}  // namespace strata
