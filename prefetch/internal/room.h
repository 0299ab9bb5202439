// How much room the outputs of the coming ops will want: what fetching ahead must leave.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "prefetch/internal/future.h"
#include "prefetch/internal/layout.h"

namespace strata::prefetch::internal {

class Room {
 public:
  Room(const Trace& trace, const Layout& layout, const Future& future);

  // The most by which new outputs of ops in (op, until_op] outgrow what ops before them give back.
  std::array<uint64_t, kNumMemoryTiers> WantedBetween(size_t op, size_t until_op) const;

 private:
  struct Change {
    int64_t made_bytes = 0;   // outputs that the op makes in its tier
    int64_t ended_bytes = 0;  // operands there that nobody needs after it
  };
  Tier TierOfOp(size_t op) const { return TierOf(trace_.ops[op].lane); }

  const Trace& trace_;
  std::vector<Change> changes_;  // by op
};

}  // namespace strata::prefetch::internal
