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

// What a tenant is worth where it is. Told when it changes, so that a search asks nobody.
struct Worth {
  bool may_go = false;
  double per_byte = 0;     // of having it when it is read next; what it loses falls with the time
  uint64_t next_read = 0;  // op
  bool counts_whole = false;  // else only as many of its bytes as are wanted
  size_t last_use = 0;        // op of its last use: its bytes are not free before that is done
};

// Among ranges whose tenants are nearly the same loss.
enum class Choice {
  kReadiest,  // whose bytes were used longest ago, so that slots cycle and reads can run ahead
  kLowest,    // packs what is placed one after the other into an empty arena without gaps
};

// How to choose a range.
struct Search {
  uint64_t size_bytes = 0;
  size_t op = 0;  // that is next to run
  // Tenants whose next read is at this op or before stay. Unset: only those that may not go.
  std::optional<uint64_t> keep_until = {};
  Choice choice = Choice::kReadiest;
  uint64_t reserve_bytes = 0;  // as much must stay free or evictable elsewhere
  size_t ready_op = 0;         // bytes last used at this op or before count as free since long
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

  // The range must be free. Returns the histories of its bytes, merged. The tenant may not go until
  // its worth is told.
  SlotHistory Take(const Range& range, BlockId tenant);
  void SetWorth(uint64_t offset_bytes, const Worth& worth);
  // `last_use`: the op that used the bytes last.
  void Free(uint64_t offset_bytes, SlotHistory history, size_t last_use);

  uint64_t capacity_bytes() const { return end_bytes_ - base_bytes_; }

 private:
  static constexpr double kStays = -1;

  struct Segment {
    Range range;
    std::optional<BlockId> tenant = {};
    size_t last_use = 0;
    size_t history = 0;  // of free bytes, in histories_; a tenant's is with its block
  };
  // What every search reads of every segment: numbers side by side, for loops that do several at
  // once.
  struct Prices {
    std::vector<double> size_bytes;
    std::vector<double> whole_bytes;  // the size if it counts whole, else 0
    std::vector<double> per_byte;
    std::vector<double> next_read;  // kStays: may not go
  };
  class Finder;

  size_t SegmentAt(uint64_t offset_bytes) const;
  // Puts `segments` where those in [first, end) are. Tenants among them may not go.
  void Replace(size_t first, size_t end, const std::vector<Segment>& segments);
  void SetPrice(size_t segment, const Worth& worth);
  size_t Keep(SlotHistory history);

  uint64_t base_bytes_;
  uint64_t end_bytes_;
  std::vector<Segment> segments_;  // in order, without gaps
  Prices prices_;                  // of segments_
  std::vector<SlotHistory> histories_;
  std::vector<size_t> unused_histories_;
};

}  // namespace strata::prefetch::internal
