// Who used some bytes (or a value) so far, as far as the next user must know.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "prefetch/step_plan.h"

namespace strata::prefetch::internal {

// While one block holds a slot, the users of one lane are ordered: by the lane where it is serial,
// and on the nvme lanes because each node there waits for the block's node before it. So the last
// reader of each lane stands for all.
class SlotHistory {
 public:
  // A reader waits for this.
  void AppendWriter(std::vector<NodeIndex>* deps) const {
    if (writer_) deps->push_back(*writer_);
  }
  // A writer, or the next tenant of the bytes, waits for these.
  void AppendAll(std::vector<NodeIndex>* deps) const {
    deps->insert(deps->end(), inherited_.begin(), inherited_.end());
    bool has_readers = false;
    for (const std::optional<NodeIndex>& reader : readers_) {
      if (!reader) continue;
      deps->push_back(*reader);
      has_readers = true;
    }
    if (!has_readers) AppendWriter(deps);  // the readers waited for it
  }

  void Inherit(const SlotHistory& before) { before.AppendAll(&inherited_); }
  void AddReader(NodeIndex node, Lane lane) { readers_[static_cast<size_t>(lane)] = node; }
  void SetWriter(NodeIndex node) {
    *this = SlotHistory();
    writer_ = node;
  }

 private:
  std::vector<NodeIndex> inherited_;  // of the tenants before, until the first write
  std::optional<NodeIndex> writer_;
  std::array<std::optional<NodeIndex>, kNumLanes> readers_;
};

}  // namespace strata::prefetch::internal
