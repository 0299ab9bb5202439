#include "aio/bench/internal/window_plan.h"

#include <gtest/gtest.h>

#include "aio/base/units.h"

namespace strata::aio {
namespace {

TEST(WindowPlanTest, KeepsTheEngineFullWhenOneRequestEnds) {
  for (uint64_t block = 4_KiB; block <= 64_MiB; block *= 2) {
    for (uint32_t depth = 1; depth <= 256; depth *= 2) {
      AioSetting setting = {.block_size_bytes = block, .queue_depth = depth, .thread_count = 3};
      WindowPlan plan = PlanWindow(setting, UINT64_MAX);
      EXPECT_GE((plan.num_slots - 1) * plan.blocks_per_slot, 3 * depth);
      // And what comes on top is one request and what rounding makes.
      EXPECT_LE(plan.blocks() - 3 * depth, 2 * plan.blocks_per_slot);
    }
  }
}

TEST(WindowPlanTest, KeepsToWhatThereIsAndUsesIt) {
  AioSetting setting = {.block_size_bytes = 1_MiB, .queue_depth = 16};
  for (uint64_t max_blocks = 1; max_blocks <= 64; ++max_blocks) {
    WindowPlan plan = PlanWindow(setting, max_blocks);
    EXPECT_GE(plan.num_slots, 1u);
    EXPECT_GE(plan.blocks_per_slot, 1u);
    EXPECT_LE(plan.blocks(), max_blocks);
    EXPECT_GE(2 * plan.blocks(), std::min<uint64_t>(max_blocks, 32));
  }
}

}  // namespace
}  // namespace strata::aio
