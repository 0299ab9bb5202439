#include "prefetch/internal/future.h"

#include <algorithm>

namespace strata::prefetch::internal {

Future::Future(const Trace& trace) : trace_(trace), uses_(trace.blocks.size()) {
  for (size_t op = 0; op < trace.ops.size(); ++op)
    for (const Access& access : trace.ops[op].accesses)
      uses_[Index(access.block)].push_back({op, access.mode});
}

Future::Uses::const_iterator Future::FirstFrom(BlockId block, size_t op) const {
  const Uses& uses = uses_[Index(block)];
  return std::ranges::lower_bound(uses, op, {}, &Use::op);
}

uint64_t Future::ReadAt(const Use& use, size_t steps_ahead) const {
  if (use.mode == AccessMode::kWrite) return kNever;
  return use.op + steps_ahead * trace_.ops.size();
}

uint64_t Future::NextRead(BlockId block, size_t from) const {
  const Uses& uses = uses_[Index(block)];
  if (auto next = FirstFrom(block, from); next != uses.end()) return ReadAt(*next, 0);
  bool lives_on = trace_.blocks[Index(block)].lifetime == Lifetime::kPersistent && !uses.empty();
  return lives_on ? ReadAt(uses.front(), 1) : kNever;
}

bool Future::IsWrittenIn(BlockId block, size_t first_op, size_t end_op) const {
  return std::any_of(FirstFrom(block, first_op), FirstFrom(block, end_op),
                     [](const Use& use) { return use.mode != AccessMode::kRead; });
}

bool Future::IsLastWrite(BlockId block, size_t op) const {
  return IsWrittenIn(block, op, op + 1) && !IsWrittenIn(block, op + 1, trace_.ops.size());
}

}  // namespace strata::prefetch::internal
