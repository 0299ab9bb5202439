#include "tiering/internal/extent_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/check.h"
#include "tiering/arena.h"

namespace strata::tiering {
namespace {

// More than any drive holds; keeps sums of what a manifest says from overflowing.
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 56;
constexpr uint64_t kMaxExtents = uint64_t{1} << 24;

auto PlaceOf(const Extent& extent) {
  return std::tuple(extent.directory, extent.offset_bytes, extent.size_bytes);
}

}  // namespace

const ExtentTable::Entry& ExtentTable::entry(ExtentIndex index) const {
  return entries_.at(static_cast<size_t>(index));
}

ExtentTable::Class& ExtentTable::ClassOf(uint64_t extent_bytes) {
  Class& found = classes_[extent_bytes];
  found.free.resize(end_bytes_.size());
  return found;
}

Status ExtentTable::AddSegments(const std::vector<ExtentSegment>& segments) {
  for (const ExtentSegment& segment : segments) {
    // Segments follow each other without gaps, so the end of a file says where the next one is.
    bool fits =
        segment.directory < end_bytes_.size() &&
        segment.offset_bytes == end_bytes_[segment.directory] && segment.extent_bytes > 0 &&
        segment.extent_bytes % kSlotAlignmentBytes == 0 && segment.extent_bytes <= kMaxFileBytes &&
        segment.num_extents <= kMaxExtents - entries_.size() &&
        segment.num_extents <= (kMaxFileBytes - segment.offset_bytes) / segment.extent_bytes;
    if (!fits) {
      return DataLoss(fmt::format(
          "{} extents of {} bytes at offset_bytes={} of directory {} cannot be",
          segment.num_extents, segment.extent_bytes, segment.offset_bytes, segment.directory));
    }
    AddSegment(segment);
  }
  return OkStatus();
}

void ExtentTable::AddSegment(const ExtentSegment& segment) {
  STRATA_CHECK(!has_scratch_);
  Class& size_class = ClassOf(segment.extent_bytes);
  for (uint64_t i = 0; i < segment.num_extents; ++i) {
    auto index = static_cast<ExtentIndex>(entries_.size());
    Extent extent{segment.directory, segment.offset_bytes + i * segment.extent_bytes,
                  segment.extent_bytes};
    entries_.push_back({.extent = extent});
    places_.emplace(PlaceOf(extent), index);
    size_class.free[segment.directory].insert(index);
  }
  size_class.num_extents += segment.num_extents;
  end_bytes_[segment.directory] += segment.num_extents * segment.extent_bytes;
  segments_.push_back(segment);
}

uint32_t ExtentTable::EmptiestDirectory(std::span<const uint64_t> bytes) const {
  return static_cast<uint32_t>(std::ranges::min_element(bytes) - bytes.begin());
}

void ExtentTable::Require(uint64_t extent_bytes, uint64_t num_extents) {
  uint64_t present = ClassOf(extent_bytes).num_extents;
  std::vector<uint64_t> ends = end_bytes_;
  std::vector<uint64_t> counts(ends.size(), 0);
  for (uint64_t i = present; i < num_extents; ++i) {
    uint32_t directory = EmptiestDirectory(ends);
    ends[directory] += extent_bytes;
    ++counts[directory];
  }
  for (uint32_t directory = 0; directory < counts.size(); ++directory) {
    if (counts[directory] > 0)
      AddSegment({directory, extent_bytes, end_bytes_[directory], counts[directory]});
  }
}

ExtentIndex ExtentTable::AddScratch(uint64_t extent_bytes) {
  has_scratch_ = true;
  uint32_t directory = EmptiestDirectory(end_bytes_);
  entries_.push_back(
      {.extent = {directory, end_bytes_[directory], extent_bytes}, .durable = false});
  end_bytes_[directory] += extent_bytes;
  return static_cast<ExtentIndex>(entries_.size() - 1);
}

std::optional<ExtentIndex> ExtentTable::Find(const Extent& extent) const {
  auto found = places_.find(PlaceOf(extent));
  if (found == places_.end()) return std::nullopt;
  return found->second;
}

std::optional<ExtentIndex> ExtentTable::Take(uint64_t extent_bytes) {
  std::set<ExtentIndex>* best = nullptr;
  uint64_t best_held_bytes = 0;
  Class& size_class = ClassOf(extent_bytes);
  for (size_t directory = 0; directory < size_class.free.size(); ++directory) {
    uint64_t held_bytes = held_by_directory_[directory];
    if (size_class.free[directory].empty() || (best && held_bytes >= best_held_bytes)) continue;
    best = &size_class.free[directory];
    best_held_bytes = held_bytes;
  }
  if (best == nullptr) return std::nullopt;
  ExtentIndex index = *best->begin();
  Hold(index);
  return index;
}

void ExtentTable::Hold(ExtentIndex index) {
  Entry& held = entries_.at(static_cast<size_t>(index));
  if (held.num_holders++ > 0) return;
  const Extent& extent = held.extent;
  if (held.durable) ClassOf(extent.size_bytes).free[extent.directory].erase(index);
  held_by_directory_[extent.directory] += extent.size_bytes;
  held_bytes_ += extent.size_bytes;
  peak_bytes_ = std::max(peak_bytes_, held_bytes_);
}

void ExtentTable::Drop(ExtentIndex index) {
  Entry& held = entries_.at(static_cast<size_t>(index));
  STRATA_CHECK(held.num_holders > 0);
  if (--held.num_holders > 0) return;
  const Extent& extent = held.extent;
  if (held.durable) ClassOf(extent.size_bytes).free[extent.directory].insert(index);
  held_by_directory_[extent.directory] -= extent.size_bytes;
  held_bytes_ -= extent.size_bytes;
}

}  // namespace strata::tiering
