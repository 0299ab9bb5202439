#include "prefetch/simulate.h"

#include <gtest/gtest.h>

#include "tests/prefetch/hand_plan.h"

namespace strata::prefetch {
namespace {

// Rates at which a page of 4096 bytes takes a second and a fraction that can be added up by head.
Hardware PagesPerSecond() {
  Hardware hardware;
  hardware.nvme_read_bytes_per_s = 2 * 4096;
  hardware.nvme_write_bytes_per_s = 4 * 4096;
  hardware.nvme_mixed_bytes_per_s = 3 * 4096;
  hardware.h2d_bytes_per_s = 2 * 4096;
  hardware.d2h_bytes_per_s = 2 * 4096;
  hardware.checksum_bytes_per_s = 0;
  hardware.cores = 2;
  hardware.op_threads = 2;
  hardware.rates["unit"] = 1;
  hardware.node_latency_s = 0;
  return hardware;
}

// Ops without operands.
StepPlan OpsOnly(const std::vector<Lane>& lanes, double work = 1) {
  StepPlan plan;
  for (Lane lane : lanes) {
    const uint32_t op = static_cast<uint32_t>(plan.trace.ops.size());
    plan.trace.ops.push_back(
        {.name = "op" + std::to_string(op), .kind = "unit", .lane = lane, .work = work});
    plan.nodes.push_back({.kind = NodeKind::kRun, .lane = lane, .op = OpId(op)});
  }
  return plan;
}

TEST(SimulateTest, OneOpTakesItsWorkDividedByItsRate) {
  const Timeline timeline = Simulate(OpsOnly({Lane::kCompute}, 3), PagesPerSecond());
  ASSERT_EQ(timeline.spans.size(), 1u);
  EXPECT_EQ(timeline.spans[0].node, 0u);
  EXPECT_DOUBLE_EQ(timeline.spans[0].start_s, 0);
  EXPECT_DOUBLE_EQ(timeline.spans[0].end_s, 3);
  EXPECT_DOUBLE_EQ(timeline.step_s, 3);
}

TEST(SimulateTest, AKindWithoutARateGoesByItsLanesDefault) {
  Hardware hardware = PagesPerSecond();
  hardware.rates.clear();
  hardware.compute_default_per_s = 2;
  hardware.comm_default_per_s = 4;
  hardware.cpu_default_per_s = 8;
  EXPECT_DOUBLE_EQ(Simulate(OpsOnly({Lane::kCompute}), hardware).step_s, 0.5);
  EXPECT_DOUBLE_EQ(Simulate(OpsOnly({Lane::kComm}), hardware).step_s, 0.25);
  EXPECT_DOUBLE_EQ(Simulate(OpsOnly({Lane::kCpu}), hardware).step_s, 0.125);
}

TEST(SimulateTest, OpsOfTwoLanesShareTheCores) {
  // Both want both cores: each goes at half speed.
  EXPECT_DOUBLE_EQ(Simulate(OpsOnly({Lane::kCompute, Lane::kCpu}), PagesPerSecond()).step_s, 2);
}

TEST(SimulateTest, OpsOfOneLaneFollowEachOther) {
  const Timeline timeline = Simulate(OpsOnly({Lane::kCompute, Lane::kCompute}), PagesPerSecond());
  EXPECT_DOUBLE_EQ(timeline.spans[1].start_s, 1);
  EXPECT_DOUBLE_EQ(timeline.step_s, 2);
}

TEST(SimulateTest, ADeviceOfItsOwnDoesNotSlowTheCpuLane) {
  Hardware hardware = PagesPerSecond();
  hardware.device_shares_cores = false;
  EXPECT_DOUBLE_EQ(Simulate(OpsOnly({Lane::kCompute, Lane::kCpu}), hardware).step_s, 1);
}

TEST(SimulateTest, ReadsOfOneLaneShareItsRate) {
  const Timeline timeline = Simulate(ReadsOnly(3), PagesPerSecond());
  EXPECT_DOUBLE_EQ(timeline.spans[0].end_s, 1);
  EXPECT_DOUBLE_EQ(timeline.spans[2].end_s, 3);
}

TEST(SimulateTest, AReadIsCheckedWhileTheNextIsTransferred) {
  Hardware hardware = PagesPerSecond();
  hardware.checksum_bytes_per_s = 4 * 4096;
  const Timeline timeline = Simulate(ReadsOnly(2), hardware);
  EXPECT_DOUBLE_EQ(timeline.spans[0].end_s, 1.5);
  EXPECT_DOUBLE_EQ(timeline.spans[1].end_s, 2.5);
}

// Node 0 a read, node 1 a write of two pages each, of different blocks.
StepPlan ReadAndWrite() {
  StepPlan plan = ReadsOnly(2);
  Node& write = plan.nodes[1];
  write.kind = NodeKind::kWrite;
  write.lane = Lane::kNvmeWrite;
  std::swap(write.from, write.to);
  return plan;
}

TEST(SimulateTest, AReadAndAWriteTogetherGetHalfTheMixedRateEach) {
  // 1.5 pages/s each: both done after 4/3 s.
  const Timeline timeline = Simulate(ReadAndWrite(), PagesPerSecond());
  EXPECT_DOUBLE_EQ(timeline.spans[0].end_s, 4.0 / 3);
  EXPECT_DOUBLE_EQ(timeline.spans[1].end_s, 4.0 / 3);
}

TEST(SimulateTest, AWriteIsHashedBeforeItIsTransferred) {
  // Hashed for 1 s while the read has the drive to itself and ends; then 0.5 s at its own rate.
  Hardware hardware = PagesPerSecond();
  hardware.checksum_bytes_per_s = 2 * 4096;
  const Timeline timeline = Simulate(ReadAndWrite(), hardware);
  EXPECT_DOUBLE_EQ(timeline.spans[1].start_s, 0);
  EXPECT_DOUBLE_EQ(timeline.spans[1].end_s, 1.5);
  EXPECT_DOUBLE_EQ(timeline.spans[0].end_s, 2);  // checked after its transfer
}

TEST(SimulateTest, ANodeStartsALatencyAfterItsDependencies) {
  Hardware hardware = PagesPerSecond();
  hardware.node_latency_s = 0.25;
  StepPlan plan = OpsOnly({Lane::kCompute, Lane::kCpu});
  plan.nodes[1].deps = {0};
  const Timeline timeline = Simulate(plan, hardware);
  EXPECT_DOUBLE_EQ(timeline.spans[1].start_s, 1.25);
  EXPECT_DOUBLE_EQ(timeline.step_s, 2.25);
}

TEST(SimulateTest, ADependencyOnTheSameSerialLaneCostsNoLatency) {
  Hardware hardware = PagesPerSecond();
  hardware.node_latency_s = 0.25;
  StepPlan plan = OpsOnly({Lane::kCompute, Lane::kCompute});
  plan.nodes[1].deps = {0};
  EXPECT_DOUBLE_EQ(Simulate(plan, hardware).step_s, 2);
}

TEST(SimulateTest, AStepOfSeveralLanesTakesWhatAddingItUpByHeadGives) {
  // The ops have no work. Read w 1 s, copy in 1, copy out g 1, write w 0.5: then v is read (2
  // pages) beside the writes of c and s (3 pages), mixed at 1.5 pages/s each.
  const StepPlan plan = HandPlan();
  const Timeline timeline = Simulate(plan, PagesPerSecond());
  EXPECT_DOUBLE_EQ(timeline.spans[4].end_s, 3);
  EXPECT_DOUBLE_EQ(timeline.spans[6].end_s, 3.5);
  EXPECT_DOUBLE_EQ(timeline.spans[8].end_s, 3.5 + 4.0 / 3);
  EXPECT_DOUBLE_EQ(timeline.spans[9].end_s, 3.5 + 4.0 / 3 + 1);
  // c and s: 2 pages of 3 while v was read, the third at 4 pages/s.
  EXPECT_DOUBLE_EQ(timeline.spans[12].end_s, 3.5 + 4.0 / 3 + 0.25);
  // s comes back after the copy of v has left its slot.
  EXPECT_DOUBLE_EQ(timeline.step_s, 3.5 + 4.0 / 3 + 1 + 1);
}

TEST(SimulateTest, NothingStartsBeforeItsDependenciesHaveEnded) {
  const StepPlan plan = HandPlan();
  const Timeline timeline = Simulate(plan, Hardware{});
  for (const Span& span : timeline.spans) {
    for (NodeIndex dep : plan.nodes[span.node].deps) {
      EXPECT_GE(span.start_s, timeline.spans[dep].end_s) << span.node << " " << dep;
    }
  }
}

TEST(SimulateTest, AnEmptyPlanTakesNoTime) {
  EXPECT_EQ(Simulate(StepPlan{}, PagesPerSecond()).step_s, 0);
}

}  // namespace
}  // namespace strata::prefetch
