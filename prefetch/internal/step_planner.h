// One walk over the ops of a step: what they need is brought where they run, what the next ops
// need is fetched ahead, what they wrote goes home.
#pragma once

#include <optional>
#include <vector>

#include "aio/base/status.h"
#include "prefetch/internal/future.h"
#include "prefetch/internal/layout.h"
#include "prefetch/internal/placement.h"
#include "prefetch/internal/room.h"

namespace strata::prefetch::internal {

struct PlannedStep {
  std::vector<Node> nodes;
  std::vector<CachedCopy> cached;  // what the next step could start with
  std::array<Usage, kNumMemoryTiers> usages;
};

class StepPlanner {
 public:
  // All references outlive it. `cached`: copies that are there when the step starts.
  StepPlanner(const Trace& trace, const Layout& layout, const Future& future, uint32_t prefetch_ops,
              const std::vector<CachedCopy>& cached);

  Result<PlannedStep> Plan() &&;

 private:
  Status PlanOp(size_t op);
  bool PlaceOperands(size_t op, Choice choice);
  // Where operands lie too scattered, or are in each other's way: empties the tier and starts over.
  bool PlaceOperandsAfresh(size_t op);
  void UnpinOperands();
  void FetchAhead(size_t op);
  bool FetchFor(size_t op, size_t later_op);
  bool WriteBack(BlockId block, size_t op);
  Status NoRoom(size_t op) const;

  const Trace& trace_;
  const Layout& layout_;
  const Future& future_;
  uint32_t prefetch_ops_;
  Room room_;
  Placement placement_;
  std::optional<NodeIndex> last_run_;
  struct Pinned {
    BlockId block;
    Tier tier;
  };
  std::vector<Pinned> pinned_;
};

}  // namespace strata::prefetch::internal
