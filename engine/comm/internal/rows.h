// How payloads are cut: into a segment for each rank, and segments into rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aio/base/units.h"

namespace strata::engine {

// Bytes or elements, as its user says. Segment r is rank r's; the last ones may be shorter or
// empty.
struct Segments {
  uint64_t stride = 0;
  uint64_t total = 0;
  uint64_t row_length = 1;  // of a segment

  struct Range {
    uint64_t begin = 0;  // in the whole
    uint64_t length = 0;
  };
  uint64_t num_rows() const { return CeilDiv(stride, row_length); }
  uint64_t begin_of(uint32_t rank) const { return std::min(total, rank * stride); }
  Range part(uint32_t rank, uint64_t row) const {
    const uint64_t end = std::min(begin_of(rank + 1), rank * stride + (row + 1) * row_length);
    const uint64_t begin = std::min(total, rank * stride + row * row_length);
    return {begin, end > begin ? end - begin : 0};
  }
};

// More than this and what was written first has left the caches when the last is written.
inline constexpr uint64_t kPastCachesBytes = 4_MiB;

}  // namespace strata::engine
