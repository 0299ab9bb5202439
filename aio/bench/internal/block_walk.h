// Which blocks a run visits, in which order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aio/bench/internal/permutation.h"
#include "aio/bench/workload.h"

namespace strata::aio {

// Round after round through the blocks [first, first + count). Random orders have one permutation,
// the same in every round: so between two visits of a block lie all others.
class BlockWalk {
 public:
  BlockWalk(uint64_t first, uint64_t count, AccessOrder order, uint64_t seed)
      : first_(first), order_(order), permutation_(std::max<uint64_t>(count, 1), seed) {}

  uint64_t count() const { return permutation_.size(); }

  struct Steps {
    uint64_t first = 0;
    uint64_t count = 0;
  };
  // The next steps, at most so many, all of one round.
  Steps Take(uint64_t max_steps) {
    Steps steps = {.first = next_, .count = std::min(max_steps, count() - next_)};
    next_ = (next_ + steps.count) % count();
    return steps;
  }
  uint64_t BlockAt(uint64_t step) const {
    return first_ + (order_ == AccessOrder::kRandom ? permutation_.At(step) : step);
  }

 private:
  uint64_t first_;
  AccessOrder order_;
  Permutation permutation_;
  uint64_t next_ = 0;
};

}  // namespace strata::aio
