// Compiled plans, held to the checker, the simulator and the bound, which know nothing of how they
// are compiled.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"
#include "prefetch/verify.h"
#include "tests/fakes/training_trace.h"
#include "tests/prefetch/random_trace.h"
#include "tiering/arena.h"

namespace strata::prefetch {
namespace {

StepPlan TrainingPlan(const fakes::TrainingTraceOptions& options, uint32_t prefetch_ops) {
  const Trace trace = fakes::TrainingTrace(options);
  const Budgets budgets = SmallestBudgets(trace, {}).value();
  return Compile(trace, {.budgets = budgets, .prefetch_ops = prefetch_ops}).value();
}

class RandomPlansTest : public testing::TestWithParam<std::tuple<uint32_t, uint32_t, double>> {
 protected:
  StepPlan Plan(uint32_t seed) const {
    const auto [first_seed, prefetch_ops, slack] = GetParam();
    return CompileTightly(RandomTrace(first_seed + seed), prefetch_ops, slack);
  }
};

INSTANTIATE_TEST_SUITE_P(All, RandomPlansTest,
                         testing::Combine(testing::Values(0u, 1000u), testing::Values(0u, 2u, 16u),
                                          testing::Values(1.0, 1.3, 4.0)));

TEST_P(RandomPlansTest, PassTheChecker) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const Status status = Verify(Plan(seed));
    EXPECT_TRUE(status.ok()) << "seed " << seed << ": " << status.ToString();
  }
}

TEST_P(RandomPlansTest, AreNeverSimulatedToBeFasterThanTheirBound) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const StepPlan plan = Plan(seed);
    for (bool shared : {true, false}) {
      Hardware hardware;
      hardware.device_shares_cores = shared;
      hardware.node_latency_s = 0;
      hardware.compute_default_per_s = 1e10;
      // Sums of a hundred terms.
      EXPECT_GE(Simulate(plan, hardware).step_s, BoundOf(plan, hardware).seconds * (1 - 1e-12));
    }
  }
}

TEST_P(RandomPlansTest, AreNotSlowedDownByAFasterMachine) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const StepPlan plan = Plan(seed);
    const Hardware slow;
    Hardware fast = slow;
    fast.nvme_read_bytes_per_s *= 2;
    fast.nvme_write_bytes_per_s *= 2;
    fast.nvme_mixed_bytes_per_s *= 2;
    fast.h2d_bytes_per_s *= 2;
    fast.d2h_bytes_per_s *= 2;
    // Who gets a shared resource first changes with the speeds, so a little is lost at times.
    EXPECT_LE(Simulate(plan, fast).step_s, Simulate(plan, slow).step_s * 1.1);
  }
}

TEST_P(RandomPlansTest, HaveTimelinesThatAddUp) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const StepPlan plan = Plan(seed);
    const Timeline timeline = Simulate(plan, Hardware{});
    for (const LaneUse& use : UseOf(plan, timeline)) {
      double sum_s = use.busy_s + use.idle_s;
      for (const auto& [reason, seconds] : use.stalled_s) sum_s += seconds;
      // Sums of up to a few hundred differences of doubles.
      EXPECT_NEAR(sum_s, timeline.step_s, 1e-12 * timeline.step_s);
    }
  }
}

// Dropping a dependency is a mistake unless others say the same. Verify catches it, or the plan is
// as good without: then its dependencies still give the order that the dropped one gave.
TEST(CompiledPlansTest, LoseNoDependencyUnnoticed) {
  const Trace trace = RandomTrace(7);
  StepPlan plan = CompileTightly(trace, 4);
  size_t num_caught = 0;
  size_t num_dropped = 0;
  for (Node& node : plan.nodes) {
    const std::vector<NodeIndex> deps = node.deps;
    if (deps.empty()) continue;
    node.deps.clear();
    ++num_dropped;
    if (!Verify(plan).ok()) ++num_caught;
    node.deps = deps;
  }
  EXPECT_GT(num_caught, num_dropped * 3 / 4) << num_caught << " of " << num_dropped;
}

TEST(CompiledPlansTest, AreRefusedWhenATransferMovesAnotherVersion) {
  StepPlan plan = TrainingPlan({}, 8);
  for (NodeIndex index = 0; index < plan.nodes.size(); index += 7) {
    if (plan.nodes[index].kind == NodeKind::kRun) continue;
    ++plan.nodes[index].version;
    EXPECT_EQ(Verify(plan).code(), Code::kInternal) << NodeName(plan, index);
    --plan.nodes[index].version;
  }
}

bool IsWaitedFor(const StepPlan& plan, NodeIndex index) {
  return std::any_of(plan.nodes.begin(), plan.nodes.end(), [&](const Node& node) {
    return std::binary_search(node.deps.begin(), node.deps.end(), index);
  });
}

TEST(CompiledPlansTest, AreRefusedWhenASlotMovesOntoAnother) {
  const StepPlan plan = TrainingPlan({}, 8);
  size_t num_caught = 0;
  size_t num_moved = 0;
  for (NodeIndex index = 0; index < plan.nodes.size(); index += 5) {
    if (plan.nodes[index].kind != NodeKind::kCopyIn || !IsWaitedFor(plan, index)) continue;
    StepPlan broken = plan;
    Slot& to = broken.nodes[index].to;
    to.offset_bytes = to.offset_bytes == 0 ? tiering::kSlotAlignmentBytes : 0;
    ++num_moved;
    if (!Verify(broken).ok()) ++num_caught;
  }
  EXPECT_EQ(num_caught, num_moved);
  EXPECT_GT(num_moved, 0u);
}

TEST(CompiledPlansTest, OfATrainingStepPassTheChecker) {
  for (Tier weights : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
    for (Tier optimizer : {Tier::kHost, Tier::kNvme}) {
      for (bool clip : {false, true}) {
        const StepPlan plan =
            TrainingPlan({.weights_home = weights, .optimizer_home = optimizer, .clip = clip}, 8);
        const Status status = Verify(plan);
        EXPECT_TRUE(status.ok()) << status.ToString();
      }
    }
  }
}

TEST(CompiledPlansTest, OfTensOfThousandsOfNodesPassTheCheckerToo) {
  const Trace trace = fakes::TrainingTrace({.num_layers = 200, .chunk_elements = 1 << 20});
  const StepPlan plan = Compile(trace, {.budgets = {.device_bytes = 256_MiB, .host_bytes = 512_MiB},
                                        .prefetch_ops = 16})
                            .value();
  EXPECT_GT(plan.nodes.size(), 20'000u);
  const Status status = Verify(plan);
  EXPECT_TRUE(status.ok()) << status.ToString();
}

}  // namespace
}  // namespace strata::prefetch
