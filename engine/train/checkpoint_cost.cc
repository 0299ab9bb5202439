#include "engine/train/checkpoint_cost.h"

#include <algorithm>

#include "aio/base/units.h"
#include "tiering/arena.h"

namespace strata::engine {

CheckpointCost CheckpointCostOf(const PlannedRun& run) {
  CheckpointCost cost;
  for (size_t i = 0; i < run.layout.blocks.size(); ++i) {
    const StateBlock& block = run.layout.blocks[i];
    uint64_t bytes = RoundUp(block.size_bytes(), tiering::kSlotAlignmentBytes);
    cost.kept_bytes += bytes;
    cost.rewritten_bytes += bytes * run.store_blocks[i].more_versions;
    if (block.home != tiering::Tier::kNvme) cost.bytes_behind += bytes;
  }
  cost.drive_s = static_cast<double>(cost.bytes_behind) / run.hardware.nvme_write_bytes_per_s;
  auto nvme = run.bound.seconds_by_resource.find("nvme");
  double busy_s = nvme == run.bound.seconds_by_resource.end() ? 0 : nvme->second;
  cost.wait_s = std::max(0.0, cost.drive_s - std::max(0.0, run.predicted.step_s - busy_s));
  return cost;
}

}  // namespace strata::engine
