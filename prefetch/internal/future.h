// What the trace will do with each block: the knowledge that makes eviction optimal.
#pragma once

#include <cstdint>
#include <vector>

#include "prefetch/trace.h"

namespace strata::prefetch::internal {

class Future {
 public:
  static constexpr uint64_t kNever = UINT64_MAX;

  explicit Future(const Trace& trace);

  // When the value that `block` has just before op `from` is read next: an op's index, counted on
  // into the next step for persistent blocks. kNever: overwritten first, or not used any more.
  uint64_t NextRead(BlockId block, size_t from) const;
  // The last op of the step that uses it.
  size_t LastUse(BlockId block) const { return uses_[Index(block)].back().op; }
  bool IsWrittenIn(BlockId block, size_t first_op, size_t end_op) const;
  bool IsLastWrite(BlockId block, size_t op) const;

 private:
  struct Use {
    size_t op;
    AccessMode mode;
  };
  using Uses = std::vector<Use>;
  Uses::const_iterator FirstFrom(BlockId block, size_t op) const;
  uint64_t ReadAt(const Use& use, size_t steps_ahead) const;

  const Trace& trace_;
  std::vector<Uses> uses_;  // by block, in op order
};

}  // namespace strata::prefetch::internal
