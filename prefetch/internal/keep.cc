#include "prefetch/internal/keep.h"

#include <algorithm>

#include "prefetch/internal/layout.h"

namespace strata::prefetch::internal {
namespace {

// A block that is read again within so many ops will still be there without our doing.
constexpr size_t kSameVisitOps = 8;

struct Visits {
  size_t num_fetches = 0;  // visits that start with a read
  size_t first_op = SIZE_MAX;
  size_t last_op = 0;
};

std::vector<Visits> CountVisits(const Trace& trace) {
  std::vector<Visits> visits(trace.blocks.size());
  for (size_t op = 0; op < trace.ops.size(); ++op) {
    for (const Access& access : trace.ops[op].accesses) {
      Visits& block = visits[Index(access.block)];
      bool is_new = block.first_op == SIZE_MAX || op - block.last_op > kSameVisitOps;
      if (is_new && access.mode != AccessMode::kWrite) ++block.num_fetches;
      block.first_op = std::min(block.first_op, op);
      block.last_op = op;
    }
  }
  return visits;
}

}  // namespace

std::vector<BlockId> BlocksWorthKeeping(const Trace& trace, uint64_t bytes) {
  std::vector<Visits> visits = CountVisits(trace);
  std::vector<BlockId> candidates;
  for (size_t i = 0; i < trace.blocks.size(); ++i)
    if (IsHome(trace.blocks[i], Tier::kNvme) && visits[i].num_fetches > 0)
      candidates.push_back(static_cast<BlockId>(i));
  std::ranges::stable_sort(candidates, [&](BlockId a, BlockId b) {
    const Visits &left = visits[Index(a)], &right = visits[Index(b)];
    if (left.num_fetches != right.num_fetches) return left.num_fetches > right.num_fetches;
    return left.first_op < right.first_op;
  });
  std::vector<BlockId> kept;
  for (BlockId block : candidates) {
    uint64_t slot_bytes = SlotBytes(trace.blocks[Index(block)]);
    if (slot_bytes > bytes) continue;
    bytes -= slot_bytes;
    kept.push_back(block);
  }
  return kept;
}

}  // namespace strata::prefetch::internal
