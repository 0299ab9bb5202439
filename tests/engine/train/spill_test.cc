// Saved activations that have no room on the device wait in host memory, and where that is small,
// too, on nvme: such runs train, and to the same bits.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using prefetch::NodeKind;

// Long sequences through narrow layers: 3 MiB of inputs is saved for backward. `host` and `device`
// are budgets; state is on nvme.
RunConfig Config(const std::string& directory, const std::string& device, const std::string& host) {
  std::vector<std::string> sets = OffloadTo("nvme", directory);
  sets.insert(sets.end(), {"data.seq_len=256", "model.max_position_embeddings=256",
                           "model.num_hidden_layers=24", "train.train_batch_size=2",
                           "train.gradient_accumulation_steps=2", "checkpoint.keep_last=0",
                           "train.steps=2", "memory.device=" + device, "memory.host=" + host});
  return OrDie(TinyConfig(directory, sets));
}

// Bytes of activations that nodes of this kind move in a step.
uint64_t ActivationBytes(const prefetch::StepPlan& plan, NodeKind kind) {
  uint64_t bytes = 0;
  for (const prefetch::Node& node : plan.nodes) {
    if (node.kind != kind) continue;
    const prefetch::TraceBlock& block = plan.trace.blocks[Index(node.block)];
    if (block.purpose == "activations") bytes += block.size_bytes;
  }
  return bytes;
}

TEST(SavedActivations, StayOnADeviceWithRoomForThem) {
  ScratchDirectory scratch;
  prefetch::StepPlan plan = OrDie(PlanRun(Config(scratch.path(), "64MiB", "64MiB"), {})).plan;
  EXPECT_EQ(ActivationBytes(plan, NodeKind::kCopyOut), 0u);
}

TEST(SavedActivations, WaitInHostMemoryWhenTheDeviceIsSmall) {
  ScratchDirectory scratch;
  prefetch::StepPlan plan = OrDie(PlanRun(Config(scratch.path(), "2MiB", "64MiB"), {})).plan;
  EXPECT_GT(ActivationBytes(plan, NodeKind::kCopyOut), 0u);
  EXPECT_EQ(ActivationBytes(plan, NodeKind::kWrite), 0u);
}

TEST(SavedActivations, GoOnToNvmeWhenHostMemoryIsSmallToo) {
  ScratchDirectory scratch;
  prefetch::StepPlan plan = OrDie(PlanRun(Config(scratch.path(), "2MiB", "2MiB"), {})).plan;
  EXPECT_GT(ActivationBytes(plan, NodeKind::kWrite), 0u);
  EXPECT_EQ(ActivationBytes(plan, NodeKind::kWrite), ActivationBytes(plan, NodeKind::kRead));
}

TEST(SavedActivations, DoNotChangeABitWhereverTheyWait) {
  ScratchDirectory scratch;
  RunOutcome expected = OrDie(Train(Config(scratch.path(), "64MiB", "64MiB")));
  for (const char* host : {"64MiB", "2MiB"}) {
    ScratchDirectory small;
    RunOutcome spilled = OrDie(Train(Config(small.path(), "2MiB", host)));
    EXPECT_EQ(spilled.summary.state_hash, expected.summary.state_hash) << "host " << host;
    EXPECT_THAT(spilled.losses, testing::ElementsAreArray(expected.losses)) << "host " << host;
  }
}

}  // namespace
}  // namespace strata::engine
