#include "prefetch/internal/arena_map.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "aio/base/check.h"

namespace strata::prefetch::internal {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();
constexpr Worth kFree = {.may_go = true, .next_read = UINT64_MAX};

// Numbers put where those in [first, end) are; moves what is behind only if it must.
template <typename T>
void ReplaceIn(std::vector<T>* values, size_t first, size_t end, size_t count) {
  auto at = [&](size_t index) { return values->begin() + static_cast<ptrdiff_t>(index); };
  if (first + count < end) values->erase(at(first + count), at(end));
  if (first + count > end) values->insert(at(end), first + count - end, T());
}

}  // namespace

// One search: looks at every range that starts or ends where a segment does.
class ArenaMap::Finder {
 public:
  Finder(const ArenaMap& arena, const Search& search)
      : arena_(arena), search_(search), segments_(arena.segments_), losses_(segments_.size()) {}

  std::optional<Range> Best() {
    Price();
    if (AvailableBytes() < static_cast<double>(search_.size_bytes + search_.reserve_bytes))
      return std::nullopt;
    FindLeastLoss();
    if (least_loss_ == kImpossible) return std::nullopt;
    if (std::optional<Range> preferred = Preferred()) return preferred;
    ChooseAmongNearlyEqual();
    return RangeFrom(best_->offset_bytes);
  }

 private:
  struct Window {
    uint64_t offset_bytes = 0;
    size_t first = 0;  // segments it overlaps: [first, last]
    size_t last = 0;
    double loss = 0;
    size_t wait = 0;  // the op that must be over before its last bytes can be had
  };
  // The next uses of a stream's blocks differ little; that slots are ready early is worth more.
  static constexpr double kNearlyEqual = 1.15;

  Range RangeFrom(uint64_t offset_bytes) const { return {offset_bytes, search_.size_bytes}; }
  uint64_t StartOf(size_t segment) const { return segments_[segment].range.offset_bytes; }
  uint64_t EndOf(size_t segment) const { return segments_[segment].range.end_bytes(); }

  // What each segment loses when it goes.
  void Price() {
    const double* size_bytes = arena_.prices_.size_bytes.data();
    const double* whole_bytes = arena_.prices_.whole_bytes.data();
    const double* per_byte = arena_.prices_.per_byte.data();
    const double* next_read = arena_.prices_.next_read.data();
    double* __restrict losses = losses_.data();
    const double op = static_cast<double>(search_.op);
    const double keep_until =
        search_.keep_until ? static_cast<double>(*search_.keep_until) : kStays;
    const double wanted_bytes = static_cast<double>(search_.size_bytes);
    for (size_t i = 0; i < segments_.size(); ++i) {
      const double ops_until_read = next_read[i] > op ? next_read[i] - op : 0;
      const double enough = whole_bytes[i] > wanted_bytes ? whole_bytes[i] : wanted_bytes;
      const double bytes = size_bytes[i] < enough ? size_bytes[i] : enough;
      const double loss = bytes * per_byte[i] / (ops_until_read + 1);
      losses[i] = next_read[i] <= keep_until ? kImpossible : loss;
    }
  }

  // That are free or may go. Four sums side by side, as an addition waits for the one before it.
  double AvailableBytes() const {
    std::array<double, 4> sums{};
    auto bytes_of = [&](size_t i) {
      return losses_[i] == kImpossible ? 0 : arena_.prices_.size_bytes[i];
    };
    size_t i = 0;
    for (; i + sums.size() <= losses_.size(); i += sums.size())
      for (size_t lane = 0; lane < sums.size(); ++lane) sums[lane] += bytes_of(i + lane);
    for (; i < losses_.size(); ++i) sums[0] += bytes_of(i);
    return sums[0] + sums[1] + sums[2] + sums[3];
  }

  // Calls `visit(Window)` for ranges that lose less than `limit()`, or as much, beside their toll.
  // Most need not be summed up: what loses its first or its last segment loses at least that.
  template <typename Limit, typename Visit>
  void ForEachWindow(Limit limit, Visit visit) const {
    for (size_t i = 0; i < segments_.size(); ++i) {
      if (losses_[i] > limit()) continue;
      if (std::optional<Window> window = FromStartOf(i, limit())) visit(*window);
      if (std::optional<Window> window = ToEndOf(i, limit())) visit(*window);
    }
  }

  std::optional<Window> FromStartOf(size_t first, double limit) const {
    const uint64_t end_bytes = StartOf(first) + search_.size_bytes;
    if (end_bytes > arena_.end_bytes_) return std::nullopt;
    double loss = losses_[first];
    size_t last = first;
    while (EndOf(last) < end_bytes && loss <= limit) loss += losses_[++last];
    if (loss > limit) return std::nullopt;
    return Window{.offset_bytes = StartOf(first), .first = first, .last = last, .loss = loss};
  }

  // None where it starts as a segment does, too.
  std::optional<Window> ToEndOf(size_t last, double limit) const {
    if (EndOf(last) < arena_.base_bytes_ + search_.size_bytes) return std::nullopt;
    const uint64_t offset_bytes = EndOf(last) - search_.size_bytes;
    double loss = losses_[last];
    size_t first = last;
    while (StartOf(first) > offset_bytes && loss <= limit) loss += losses_[--first];
    if (StartOf(first) >= offset_bytes) return std::nullopt;
    // Summed in one order, so that the same segments are the same loss to the last bit.
    loss = 0;
    for (size_t i = first; i <= last; ++i) loss += losses_[i];
    if (loss > limit) return std::nullopt;
    return Window{.offset_bytes = offset_bytes, .first = first, .last = last, .loss = loss};
  }

  double TollOf(const Window& window) const {
    return search_.toll ? search_.toll(RangeFrom(window.offset_bytes)) : 0;
  }

  void FindLeastLoss() {
    // What is not below the least without its toll is not with it.
    auto limit = [this] { return std::min(least_loss_, std::numeric_limits<double>::max()); };
    ForEachWindow(limit, [this](const Window& window) {
      if (window.loss < least_loss_)
        least_loss_ = std::min(least_loss_, window.loss + TollOf(window));
    });
    most_loss_ = least_loss_ * kNearlyEqual;
  }

  void ChooseAmongNearlyEqual() {
    auto limit = [this] { return most_loss_; };
    ForEachWindow(limit, [this](Window window) {
      window.wait = WaitOf(window);
      const bool is_later =
          best_ && search_.choice == Choice::kReadiest && window.wait > best_->wait;
      if (is_later) return;
      window.loss += TollOf(window);
      if (window.loss > most_loss_) return;
      if (!best_ || IsBetter(window, *best_)) best_ = window;
    });
  }

  std::optional<Range> Preferred() const {
    if (!search_.preferred_offset_bytes || search_.choice == Choice::kLowest) return std::nullopt;
    Range range = RangeFrom(*search_.preferred_offset_bytes);
    double loss = 0;
    for (size_t i = arena_.SegmentAt(range.offset_bytes);
         i < segments_.size() && StartOf(i) < range.end_bytes(); ++i)
      loss += losses_[i];
    if (loss > most_loss_ + search_.preferred_gain) return std::nullopt;
    return range;
  }

  bool IsBetter(const Window& a, const Window& b) const {
    if (search_.choice == Choice::kLowest) return a.offset_bytes < b.offset_bytes;
    if (a.wait != b.wait) return a.wait < b.wait;
    uint64_t left_a = LeftoverOf(a), left_b = LeftoverOf(b);
    if (left_a != left_b) return left_a < left_b;
    if (a.loss != b.loss) return a.loss < b.loss;
    return a.offset_bytes < b.offset_bytes;
  }

  // Old ones are all alike.
  size_t WaitOf(const Window& window) const {
    size_t last_use = search_.ready_op;
    for (size_t i = window.first; i <= window.last; ++i)
      last_use = std::max(last_use, segments_[i].last_use);
    return last_use;
  }

  // Free bytes that would remain on both sides.
  uint64_t LeftoverOf(const Window& window) const {
    uint64_t before = window.offset_bytes - StartOf(window.first);
    uint64_t after = EndOf(window.last) - RangeFrom(window.offset_bytes).end_bytes();
    for (size_t i = window.first; i-- > 0 && !segments_[i].tenant;)
      before += segments_[i].range.size_bytes;
    for (size_t i = window.last + 1; i < segments_.size() && !segments_[i].tenant; ++i)
      after += segments_[i].range.size_bytes;
    return before + after;
  }

  const ArenaMap& arena_;
  const Search& search_;
  const std::vector<Segment>& segments_;
  std::vector<double> losses_;  // by segment
  double least_loss_ = kImpossible;
  double most_loss_ = 0;  // that is nearly as little
  std::optional<Window> best_;
};

ArenaMap::ArenaMap(uint64_t base_bytes, uint64_t end_bytes)
    : base_bytes_(base_bytes), end_bytes_(end_bytes) {
  STRATA_CHECK(base_bytes <= end_bytes);
  if (base_bytes < end_bytes)
    Replace(0, 0, {{.range = {base_bytes, end_bytes - base_bytes}, .history = Keep({})}});
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

SlotHistory ArenaMap::Take(const Range& range, BlockId tenant) {
  const size_t first = SegmentAt(range.offset_bytes);
  size_t end = first;
  SlotHistory merged;
  for (; end < segments_.size() && segments_[end].range.offset_bytes < range.end_bytes(); ++end) {
    STRATA_CHECK(!segments_[end].tenant);
    merged.Inherit(histories_[segments_[end].history]);
  }
  // Free bytes that stay, on both sides, with the history of the segment that they are from.
  Segment before = segments_[first], after = segments_[end - 1];
  before.range.size_bytes = range.offset_bytes - before.range.offset_bytes;
  after.range = {range.end_bytes(), after.range.end_bytes() - range.end_bytes()};
  const bool has_before = before.range.size_bytes > 0, has_after = after.range.size_bytes > 0;
  if (has_before && has_after && end == first + 1) after.history = Keep(histories_[before.history]);
  for (size_t i = first; i < end; ++i) {
    const bool stays = (has_before && i == first) || (has_after && i + 1 == end);
    if (!stays) unused_histories_.push_back(segments_[i].history);
  }
  std::vector<Segment> segments;
  if (has_before) segments.push_back(before);
  segments.push_back({.range = range, .tenant = tenant});
  if (has_after) segments.push_back(after);
  Replace(first, end, segments);
  return merged;
}

void ArenaMap::SetWorth(uint64_t offset_bytes, const Worth& worth) {
  const size_t index = SegmentAt(offset_bytes);
  STRATA_CHECK(segments_[index].tenant && segments_[index].range.offset_bytes == offset_bytes);
  segments_[index].last_use = worth.last_use;
  SetPrice(index, worth);
}

void ArenaMap::Free(uint64_t offset_bytes, SlotHistory history, size_t last_use) {
  const size_t index = SegmentAt(offset_bytes);
  Segment& segment = segments_[index];
  STRATA_CHECK(segment.tenant && segment.range.offset_bytes == offset_bytes);
  segment.tenant.reset();
  segment.history = Keep(std::move(history));
  segment.last_use = last_use;
  SetPrice(index, kFree);
}

void ArenaMap::Replace(size_t first, size_t end, const std::vector<Segment>& segments) {
  ReplaceIn(&segments_, first, end, segments.size());
  for (std::vector<double>* numbers :
       {&prices_.size_bytes, &prices_.whole_bytes, &prices_.per_byte, &prices_.next_read})
    ReplaceIn(numbers, first, end, segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    segments_[first + i] = segments[i];
    SetPrice(first + i, segments[i].tenant ? Worth() : kFree);
  }
}

void ArenaMap::SetPrice(size_t segment, const Worth& worth) {
  const double size_bytes = static_cast<double>(segments_[segment].range.size_bytes);
  prices_.size_bytes[segment] = size_bytes;
  prices_.whole_bytes[segment] = worth.counts_whole ? size_bytes : 0;
  prices_.per_byte[segment] = worth.per_byte;
  prices_.next_read[segment] = worth.may_go ? static_cast<double>(worth.next_read) : kStays;
}

size_t ArenaMap::Keep(SlotHistory history) {
  if (unused_histories_.empty()) {
    histories_.push_back(std::move(history));
    return histories_.size() - 1;
  }
  const size_t index = unused_histories_.back();
  unused_histories_.pop_back();
  histories_[index] = std::move(history);
  return index;
}

}  // namespace strata::prefetch::internal
