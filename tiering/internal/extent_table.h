// Which parts of the store's files there are, and who holds them.
//
// Durable extents come in classes of exactly one size each, so that a free one always fits and
// nothing fragments. They never move: segments are only ever added at the end of a file. Scratch
// extents stand behind them, one for each scratch block, laid out anew whenever a store is opened.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <tuple>
#include <vector>

#include "aio/base/status.h"
#include "tiering/internal/manifest.h"

namespace strata::tiering {

enum class ExtentIndex : uint32_t {};

struct Extent {
  uint32_t directory = 0;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
};

// Thread-compatible.
class ExtentTable {
 public:
  explicit ExtentTable(uint32_t num_directories) : end_bytes_(num_directories, 0) {}

  // The durable extents a manifest speaks of: kDataLoss when they cannot be.
  Status AddSegments(const std::vector<ExtentSegment>& segments);
  // Adds what is missing of `num_extents` durable ones of this size, spread over the directories
  // by bytes.
  void Require(uint64_t extent_bytes, uint64_t num_extents);
  // A scratch extent; nothing durable may be added after it.
  ExtentIndex AddScratch(uint64_t extent_bytes);

  const std::vector<ExtentSegment>& segments() const { return segments_; }
  // By directory: how long its file must be.
  const std::vector<uint64_t>& end_bytes() const { return end_bytes_; }

  const Extent& extent(ExtentIndex index) const { return entry(index).extent; }
  // The durable extent at this place, if there is one.
  std::optional<ExtentIndex> Find(const Extent& extent) const;

  // A free durable extent, with one holder now, in the directory that holds the fewest bytes.
  std::optional<ExtentIndex> Take(uint64_t extent_bytes);
  void Hold(ExtentIndex index);
  // The last holder's Drop makes it free.
  void Drop(ExtentIndex index);
  uint32_t num_holders(ExtentIndex index) const { return entry(index).num_holders; }

  uint64_t held_bytes() const { return held_bytes_; }
  uint64_t peak_bytes() const { return peak_bytes_; }

 private:
  struct Entry {
    Extent extent;
    bool durable = true;
    uint32_t num_holders = 0;
  };
  // The free extents of a class, by directory, lowest offset first.
  struct Class {
    uint64_t num_extents = 0;
    std::vector<std::set<ExtentIndex>> free;
  };

  const Entry& entry(ExtentIndex index) const;
  void AddSegment(const ExtentSegment& segment);
  uint32_t EmptiestDirectory(std::span<const uint64_t> bytes) const;
  Class& ClassOf(uint64_t extent_bytes);

  std::vector<ExtentSegment> segments_;
  std::vector<Entry> entries_;
  std::map<std::tuple<uint32_t, uint64_t, uint64_t>, ExtentIndex> places_;
  std::map<uint64_t, Class> classes_;
  std::vector<uint64_t> end_bytes_;
  std::vector<uint64_t> held_by_directory_ = std::vector<uint64_t>(end_bytes_.size(), 0);
  uint64_t held_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
  bool has_scratch_ = false;
};

}  // namespace strata::tiering
