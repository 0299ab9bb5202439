#include "aio/bench/internal/window_plan.h"

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::aio {
namespace {

// Long enough that the submitting thread wakes seldom; and little in all, as memory that does not
// fit the caches costs the drive's bandwidth, too: 48 MiB in three slots instead of 32 MiB in two
// read a sixth slower.
constexpr uint64_t kMinSlotBytes = 8_MiB;
constexpr uint64_t kMaxSlotBytes = 16_MiB;

}  // namespace

WindowPlan PlanWindow(const AioSetting& setting, uint64_t max_blocks) {
  STRATA_CHECK(max_blocks > 0);
  const uint64_t block_bytes = setting.block_size_bytes;
  const uint64_t in_kernel = uint64_t{setting.queue_depth} * setting.thread_count;
  const uint64_t fewest = std::max<uint64_t>(1, kMinSlotBytes / block_bytes);
  const uint64_t most = std::max<uint64_t>(1, kMaxSlotBytes / block_bytes);
  WindowPlan plan = {.blocks_per_slot = std::clamp(in_kernel, fewest, most)};
  plan.num_slots = CeilDiv(in_kernel, plan.blocks_per_slot) + 1;
  if (plan.blocks() <= max_blocks) return plan;
  plan.num_slots = std::min(plan.num_slots, max_blocks);
  plan.blocks_per_slot = std::min(plan.blocks_per_slot, max_blocks / plan.num_slots);
  return plan;
}

}  // namespace strata::aio
