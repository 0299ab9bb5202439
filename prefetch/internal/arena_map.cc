#include "prefetch/internal/arena_map.h"

#include <algorithm>
#include <limits>

#include "aio/base/check.h"

namespace strata::prefetch::internal {

// One search: looks at every range that starts or ends where a segment does.
class ArenaMap::Finder {
 public:
  Finder(const ArenaMap& arena, const Search& search)
      : arena_(arena), search_(search), segments_(arena.segments_) {
    Price();
    MeasureFreeRuns();
  }

  std::optional<Range> Best() {
    if (search_.size_bytes + search_.reserve_bytes > available_bytes_) return std::nullopt;
    CollectFromStarts();
    CollectFromEnds();
    if (windows_.empty()) return std::nullopt;
    if (std::optional<Range> preferred = Preferred()) return preferred;
    const Window* best = nullptr;
    for (const Window& window : windows_) {
      if (IsTooDear(window.loss)) continue;
      if (best == nullptr || IsBetter(window, *best)) best = &window;
    }
    return best->range;
  }

 private:
  struct Window {
    Range range;
    size_t first = 0;  // segments it overlaps: [first, last]
    size_t last = 0;
    double loss = 0;
  };
  // The next uses of a stream's blocks differ little; that slots are ready early is worth more.
  static constexpr double kNearlyEqual = 1.15;

  // Sums up to each segment, so that a range's price is a difference.
  void Price() {
    loss_up_to_.assign(segments_.size() + 1, 0);
    blocked_up_to_.assign(segments_.size() + 1, 0);
    tenants_up_to_.assign(segments_.size() + 1, 0);
    for (size_t i = 0; i < segments_.size(); ++i) {
      const Segment& segment = segments_[i];
      EvictionCost cost{.last_use = segment.last_use};
      if (segment.tenant) cost = search_.cost(*segment.tenant);
      loss_up_to_[i + 1] = loss_up_to_[i] + (cost.is_possible ? cost.loss : 0);
      blocked_up_to_[i + 1] = blocked_up_to_[i] + (cost.is_possible ? 0 : 1);
      tenants_up_to_[i + 1] = tenants_up_to_[i] + (segment.tenant ? 1 : 0);
      if (cost.is_possible) available_bytes_ += segment.range.size_bytes;
      last_use_.push_back(cost.last_use);
    }
  }

  void MeasureFreeRuns() {
    free_before_.assign(segments_.size() + 1, 0);
    free_after_.assign(segments_.size() + 1, 0);
    for (size_t i = 0; i < segments_.size(); ++i)
      if (!segments_[i].tenant) free_before_[i + 1] = free_before_[i] + SizeOf(i);
    for (size_t i = segments_.size(); i-- > 0;)
      if (!segments_[i].tenant) free_after_[i] = free_after_[i + 1] + SizeOf(i);
  }

  uint64_t SizeOf(size_t i) const { return segments_[i].range.size_bytes; }

  void CollectFromStarts() {
    size_t last = 0;
    for (size_t first = 0; first < segments_.size(); ++first) {
      Range range{segments_[first].range.offset_bytes, search_.size_bytes};
      if (range.end_bytes() > arena_.end_bytes_) return;
      while (segments_[last].range.end_bytes() < range.end_bytes()) ++last;
      Collect(range, first, last);
    }
  }

  void CollectFromEnds() {
    size_t first = 0;
    for (size_t last = 0; last < segments_.size(); ++last) {
      uint64_t end_bytes = segments_[last].range.end_bytes();
      if (end_bytes < arena_.base_bytes_ + search_.size_bytes) continue;
      Range range{end_bytes - search_.size_bytes, search_.size_bytes};
      while (segments_[first].range.end_bytes() <= range.offset_bytes) ++first;
      Collect(range, first, last);
    }
  }

  void Collect(const Range& range, size_t first, size_t last) {
    std::optional<double> loss = LossOf(first, last);
    // What is too dear already only gets dearer, and the least loss only smaller.
    if (!loss || IsTooDear(*loss)) return;
    if (search_.toll) *loss += search_.toll(range);
    if (IsTooDear(*loss)) return;
    windows_.push_back({range, first, last, *loss});
    least_loss_ = std::min(least_loss_, *loss);
  }

  bool IsTooDear(double loss) const { return loss > least_loss_ * kNearlyEqual; }

  std::optional<double> LossOf(size_t first, size_t last) const {
    if (blocked_up_to_[last + 1] != blocked_up_to_[first]) return std::nullopt;
    // A difference of sums is not exact, and free must cost nothing.
    if (tenants_up_to_[last + 1] == tenants_up_to_[first]) return 0;
    return std::max(0.0, loss_up_to_[last + 1] - loss_up_to_[first]);
  }

  std::optional<Range> Preferred() const {
    if (!search_.preferred_offset_bytes || search_.choice == Choice::kLowest) return std::nullopt;
    Range range{*search_.preferred_offset_bytes, search_.size_bytes};
    size_t first = arena_.SegmentAt(range.offset_bytes);
    size_t last = arena_.SegmentAt(range.end_bytes() - 1);
    std::optional<double> loss = LossOf(first, last);
    if (!loss || *loss > least_loss_ * kNearlyEqual + search_.preferred_gain) return std::nullopt;
    return range;
  }

  bool IsBetter(const Window& a, const Window& b) const {
    if (search_.choice == Choice::kLowest) return a.range.offset_bytes < b.range.offset_bytes;
    size_t wait_a = WaitOf(a), wait_b = WaitOf(b);
    if (wait_a != wait_b) return wait_a < wait_b;
    uint64_t left_a = LeftoverOf(a), left_b = LeftoverOf(b);
    if (left_a != left_b) return left_a < left_b;
    if (a.loss != b.loss) return a.loss < b.loss;
    return a.range.offset_bytes < b.range.offset_bytes;
  }

  // The op that must be over before the last of the bytes can be had; old ones are all alike.
  size_t WaitOf(const Window& window) const {
    size_t last_use = search_.ready_op;
    for (size_t i = window.first; i <= window.last; ++i)
      last_use = std::max(last_use, last_use_[i]);
    return last_use;
  }

  // Free bytes that would remain on both sides.
  uint64_t LeftoverOf(const Window& window) const {
    uint64_t before = window.range.offset_bytes - segments_[window.first].range.offset_bytes;
    uint64_t after = segments_[window.last].range.end_bytes() - window.range.end_bytes();
    return free_before_[window.first] + before + after + free_after_[window.last + 1];
  }

  const ArenaMap& arena_;
  const Search& search_;
  const std::vector<Segment>& segments_;
  std::vector<double> loss_up_to_;
  std::vector<size_t> blocked_up_to_;
  std::vector<size_t> tenants_up_to_;
  std::vector<size_t> last_use_;
  std::vector<uint64_t> free_before_;  // free bytes in one piece that end where segment i starts
  std::vector<uint64_t> free_after_;   // ... that start where segment i starts
  uint64_t available_bytes_ = 0;
  std::vector<Window> windows_;
  double least_loss_ = std::numeric_limits<double>::infinity();
};

ArenaMap::ArenaMap(uint64_t base_bytes, uint64_t end_bytes)
    : base_bytes_(base_bytes), end_bytes_(end_bytes) {
  STRATA_CHECK(base_bytes <= end_bytes);
  if (base_bytes < end_bytes)
    segments_.push_back(
        {.range = {base_bytes, end_bytes - base_bytes}, .tenant = {}, .history = {}});
}

std::optional<Range> ArenaMap::Find(const Search& search) const {
  if (search.size_bytes > capacity_bytes()) return std::nullopt;
  return Finder(*this, search).Best();
}

size_t ArenaMap::SegmentAt(uint64_t offset_bytes) const {
  auto behind = std::ranges::upper_bound(segments_, offset_bytes, {},
                                         [](const Segment& s) { return s.range.offset_bytes; });
  return static_cast<size_t>(behind - segments_.begin()) - 1;
}

std::vector<BlockId> ArenaMap::TenantsOf(const Range& range) const {
  std::vector<BlockId> tenants;
  for (size_t i = SegmentAt(range.offset_bytes);
       i < segments_.size() && segments_[i].range.offset_bytes < range.end_bytes(); ++i)
    if (segments_[i].tenant) tenants.push_back(*segments_[i].tenant);
  return tenants;
}

size_t ArenaMap::SplitAt(uint64_t offset_bytes) {
  if (offset_bytes == end_bytes_) return segments_.size();
  size_t index = SegmentAt(offset_bytes);
  uint64_t head_bytes = offset_bytes - segments_[index].range.offset_bytes;
  if (head_bytes == 0) return index;
  STRATA_CHECK(!segments_[index].tenant);
  Segment tail = segments_[index];
  segments_[index].range.size_bytes = head_bytes;
  tail.range = {offset_bytes, tail.range.size_bytes - head_bytes};
  segments_.insert(segments_.begin() + static_cast<ptrdiff_t>(index) + 1, std::move(tail));
  return index + 1;
}

SlotHistory ArenaMap::Take(const Range& range, BlockId tenant) {
  size_t first = SplitAt(range.offset_bytes);
  size_t end = SplitAt(range.end_bytes());
  SlotHistory merged;
  for (size_t i = first; i < end; ++i) {
    STRATA_CHECK(!segments_[i].tenant);
    merged.Inherit(segments_[i].history);
  }
  segments_[first] = {.range = range, .tenant = tenant, .history = {}};
  segments_.erase(segments_.begin() + static_cast<ptrdiff_t>(first) + 1,
                  segments_.begin() + static_cast<ptrdiff_t>(end));
  return merged;
}

void ArenaMap::Free(uint64_t offset_bytes, SlotHistory history, size_t last_use) {
  Segment& segment = segments_[SegmentAt(offset_bytes)];
  STRATA_CHECK(segment.tenant && segment.range.offset_bytes == offset_bytes);
  segment.tenant.reset();
  segment.history = std::move(history);
  segment.last_use = last_use;
}

}  // namespace strata::prefetch::internal
