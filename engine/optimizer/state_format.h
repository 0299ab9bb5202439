// How the optimizer's state is stored: the master weights and the two moments of each element.
//
//            master                        m and v                                bytes per element
//   fp32     fp32                          fp32                                   12, beside w
//   split    the 16 bits that w lacks      fp32                                   10, beside w
//   int8     the 16 bits that w lacks      8-bit codes, one scale per 64 of them  4 + 1/32, beside
//   w
//
// w is the bf16 weight that the model computes with. `split` gives the bits of `fp32`: see
// split_master.h. `int8` does not: see moment_codes.h.
#pragma once

#include <cstdint>
#include <string_view>

#include "aio/base/check.h"

namespace strata::engine {

enum class StateFormat : uint8_t { kFp32, kSplit, kInt8 };

constexpr std::string_view StateFormatName(StateFormat format) {
  return format == StateFormat::kFp32 ? "fp32" : format == StateFormat::kSplit ? "split" : "int8";
}

// Of int8: as many elements as share a scale. Tensors start at multiples of it, so that no scale
// belongs to two of them.
constexpr uint64_t kScaledElements = 64;

// Of m, or of v. int8: the codes, then the scales.
constexpr uint64_t MomentBytes(StateFormat format, uint64_t num_elements) {
  if (format != StateFormat::kInt8) return num_elements * sizeof(float);
  STRATA_CHECK(num_elements % kScaledElements == 0);
  return num_elements + num_elements / kScaledElements;
}

}  // namespace strata::engine
