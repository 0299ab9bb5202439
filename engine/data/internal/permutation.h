// A shuffle without a table: a keyed bijection of {0, ..., size - 1}.
#pragma once

#include <cstdint>

namespace strata::engine::data_internal {

// Where `index` < `size` goes. A Feistel network over the next larger power of four, walked until
// it lands below `size` again (Black & Rogaway 2002, cycle walking).
uint64_t Permute(uint64_t index, uint64_t size, uint64_t key);

// The key of one epoch's shuffle.
uint64_t EpochKey(uint64_t seed, uint64_t epoch);

}  // namespace strata::engine::data_internal
