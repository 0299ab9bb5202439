// What the bytes of a tier hold, and who touched them last.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "prefetch/step_plan.h"

namespace strata::prefetch {

// A version of a block; on a tier, together with the place where its first byte stands.
struct Content {
  BlockId block{};
  uint32_t version = 0;
  uint64_t offset_bytes = 0;

  friend bool operator==(const Content&, const Content&) = default;
};

// The last write of a run of bytes and the reads since.
struct Holding {
  std::optional<Content> content;   // nothing: undefined
  std::optional<NodeIndex> writer;  // nothing: as the step began
  std::vector<NodeIndex> readers;
};

// A tier's bytes, cut into runs with one holding each.
class ByteMap {
 public:
  explicit ByteMap(uint64_t size_bytes) { runs_[0] = {.end = size_bytes, .holding = {}}; }

  // Calls `visit(Holding&)` for each run in the range, cut to it; stops at the first failure.
  template <typename Visit>
  Status ForEach(uint64_t begin, uint64_t end, Visit visit) {
    CutAt(begin);
    CutAt(end);
    for (auto it = runs_.find(begin); it != runs_.end() && it->first < end; ++it) {
      STRATA_RETURN_IF_ERROR(visit(it->second.holding));
    }
    return OkStatus();
  }

  void Assign(uint64_t begin, uint64_t end, Holding holding) {
    CutAt(begin);
    CutAt(end);
    runs_.erase(runs_.lower_bound(begin), runs_.lower_bound(end));
    runs_[begin] = {.end = end, .holding = std::move(holding)};
  }

 private:
  struct Run {
    uint64_t end = 0;
    Holding holding;
  };

  void CutAt(uint64_t offset) {
    auto it = runs_.upper_bound(offset);
    if (it == runs_.begin()) return;
    --it;
    if (it->first == offset || it->second.end <= offset) return;
    runs_[offset] = it->second;
    it->second.end = offset;
  }

  std::map<uint64_t, Run> runs_;  // by first byte
};

}  // namespace strata::prefetch
