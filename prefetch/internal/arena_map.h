// The plan-time picture of one tier's arena: which block holds which bytes, and who used the free
// ones last.
//
// Free neighbours keep their own histories, so that a new tenant waits only for those who used the
// very bytes it takes over; a search looks at them as one range.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "prefetch/internal/slot_history.h"

namespace strata::prefetch::internal {

struct Range {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  uint64_t end_bytes() const { return offset_bytes + size_bytes; }
};

// What it would mean to evict a tenant.
struct EvictionCost {
  bool is_possible = true;
  double loss = 0;      // > 0; adds up over the tenants of a range
  size_t last_use = 0;  // op of its last use: its bytes are not free before that is done
};

// Among ranges whose tenants are nearly the same loss.
enum class Choice {
  kReadiest,  // whose bytes were used longest ago, so that slots cycle and reads can run ahead
  kLowest,    // packs what is placed one after the other into an empty arena without gaps
};

// How to choose a range.
struct Search {
  uint64_t size_bytes = 0;
  Choice choice = Choice::kReadiest;
  uint64_t reserve_bytes = 0;  // as much must stay free or evictable elsewhere
  size_t ready_op = 0;         // bytes last used at this op or before count as free since long
  std::function<EvictionCost(BlockId)> cost;
  // What taking a range loses beside its tenants; unset: nothing.
  std::function<double(const Range&)> toll = {};
  // Taken where it costs at most `preferred_gain` more than the best.
  std::optional<uint64_t> preferred_offset_bytes = {};
  double preferred_gain = 0;
};

class ArenaMap {
 public:
  // Manages the bytes from `base_bytes` up to `end_bytes`.
  ArenaMap(uint64_t base_bytes, uint64_t end_bytes);

  // The range whose tenants are the smallest loss; among nearly equal ones by Choice; then the
  // tightest fit.
  std::optional<Range> Find(const Search& search) const;
  std::vector<BlockId> TenantsOf(const Range& range) const;

  // The range must be free. Returns the histories of its bytes, merged.
  SlotHistory Take(const Range& range, BlockId tenant);
  // `last_use`: the op that used the bytes last.
  void Free(uint64_t offset_bytes, SlotHistory history, size_t last_use);

  uint64_t capacity_bytes() const { return end_bytes_ - base_bytes_; }

 private:
  struct Segment {
    Range range;
    std::optional<BlockId> tenant;
    SlotHistory history;  // of free bytes; a tenant's is with its block
    size_t last_use = 0;
  };
  class Finder;

  size_t SegmentAt(uint64_t offset_bytes) const;
  // Makes `offset_bytes` a boundary between free segments; returns the index of the one behind it.
  size_t SplitAt(uint64_t offset_bytes);

  uint64_t base_bytes_;
  uint64_t end_bytes_;
  std::vector<Segment> segments_;  // in order, without gaps
};

}  // namespace strata::prefetch::internal
