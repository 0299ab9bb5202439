// What the two schedules of micro-batches move and keep.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using tiering::Tier;

class ScheduleTest : public testing::Test {
 protected:
  // `accumulation` micro-batches of one sequence, everything on nvme. Updates that do not read
  // weights: then all that is read of them is for passes, which is what schedules differ in.
  RunConfig Config(const std::string& schedule, int accumulation,
                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> sets = OffloadTo("nvme", scratch_.path());
    sets.insert(sets.end(), {"data.seq_len=64", "zero_optimization.prefetch_ops=4",
                             "train.clip_mode=norm_first",
                             "train.train_batch_size=" + std::to_string(accumulation),
                             "train.gradient_accumulation_steps=" + std::to_string(accumulation),
                             "train.schedule=" + schedule, "optimizer.state=fp32"});
    sets.insert(sets.end(), more.begin(), more.end());
    return OrDie(TinyConfig(scratch_.path(), sets));
  }
  ScratchDirectory scratch_;
};

// A model that is mostly weights, in memory that holds a small part of them. What eight
// micro-batches more keep of activations takes the place of a few cached copies.
TEST_F(ScheduleTest, VerticallyEightMicroBatchesMoveTheStateThatOneMoves) {
  auto traffic = [&](const std::string& schedule, int accumulation) {
    return prefetch::TrafficOf(
        OrDie(
            PlanRun(Config(schedule, accumulation,
                           {"data.seq_len=16", "model.hidden_size=128", "model.num_hidden_layers=8",
                            "train.recompute=all", "memory.device=1MiB", "memory.host=2MiB"}),
                    {}))
            .plan);
  };
  auto read = [](prefetch::Traffic& step) {
    return static_cast<double>(step.nvme_read_by_purpose["weights"] +
                               step.nvme_read_by_purpose["optimizer"]);
  };
  prefetch::Traffic one = traffic("vertical", 1);
  prefetch::Traffic eight = traffic("vertical", 8);
  EXPECT_LE(read(eight), 1.05 * read(one));
  for (const char* purpose : {"weights", "optimizer"})
    EXPECT_EQ(eight.nvme_written_by_purpose[purpose], one.nvme_written_by_purpose[purpose]);
  EXPECT_GT(traffic("horizontal", 8).nvme_read_by_purpose["weights"],
            4 * eight.nvme_read_by_purpose["weights"]);
}

TEST_F(ScheduleTest, HorizontallyOneMicroBatchsActivationsAreKeptAtATime) {
  auto activations = [&](const std::string& schedule, int accumulation) {
    PlannedRun run = OrDie(PlanRun(Config(schedule, accumulation), {}));
    uint64_t bytes = 0;
    for (const auto& by_purpose : run.plan.peak_by_purpose) {
      auto found = by_purpose.find("activations");
      if (found != by_purpose.end()) bytes += found->second;
    }
    return bytes;
  };
  // Not quite the same: what is fetched ahead differs.
  EXPECT_LT(activations("horizontal", 8), 2 * activations("horizontal", 1));
  EXPECT_GT(activations("vertical", 8), 4 * activations("vertical", 1));
}

}  // namespace
}  // namespace strata::engine
