#include "prefetch/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "prefetch/step_plan.h"

namespace strata::prefetch {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// One persistent and one step block; an op that reads the one and writes the other.
Trace SmallTrace() {
  Trace trace;
  trace.blocks = {
      {.name = "w", .purpose = "weights", .size_bytes = 4096, .lifetime = Lifetime::kPersistent},
      {.name = "x", .purpose = "activations", .size_bytes = 100}};
  trace.ops = {{.name = "forward",
                .accesses = {{BlockId(0), AccessMode::kRead}, {BlockId(1), AccessMode::kWrite}}}};
  return trace;
}

void ExpectRefused(const Trace& trace, const std::string& subject, const std::string& reason) {
  Status status = trace.Validate();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("'" + subject + "'"), HasSubstr(reason)));
}

TEST(TraceTest, AnOpThatReadsWhatExistsAndWritesWhatIsNewIsValid) {
  EXPECT_TRUE(SmallTrace().Validate().ok());
  EXPECT_TRUE(Trace().Validate().ok());
}

TEST(TraceTest, AnOpOnATransferLaneIsRefused) {
  Trace trace = SmallTrace();
  trace.ops[0].lane = Lane::kH2d;
  ExpectRefused(trace, "forward", "h2d");
}

TEST(TraceTest, ABlockThatDoesNotExistIsRefused) {
  Trace trace = SmallTrace();
  trace.ops[0].accesses.push_back({BlockId(2), AccessMode::kRead});
  ExpectRefused(trace, "forward", "uses block 2");
}

TEST(TraceTest, ABlockTwiceInOneOpIsRefused) {
  Trace trace = SmallTrace();
  trace.ops[0].accesses.push_back({BlockId(0), AccessMode::kWrite});
  ExpectRefused(trace, "forward", "'w' twice");
}

TEST(TraceTest, AStepBlockThatIsReadBeforeItIsWrittenIsRefused) {
  for (AccessMode mode : {AccessMode::kRead, AccessMode::kReadWrite}) {
    Trace trace = SmallTrace();
    trace.ops[0].accesses[1].mode = mode;
    ExpectRefused(trace, "forward", "step block 'x' before anything wrote it");
  }
}

TEST(TraceTest, AnEmptyBlockIsRefused) {
  Trace trace = SmallTrace();
  trace.blocks[1].size_bytes = 0;
  ExpectRefused(trace, "x", "no bytes");
}

TEST(TraceTest, TwoBlocksOfOneNameAreRefused) {
  Trace trace = SmallTrace();
  trace.blocks[1].name = trace.blocks[0].name;
  ExpectRefused(trace, "w", "two trace blocks");
}

// read w, copy it in, run, copy x out, spill x: as small as a plan with every kind can be.
StepPlan SmallPlan() {
  Slot host{.tier = Tier::kHost, .size_bytes = 4096};
  Slot device{.tier = Tier::kDevice, .size_bytes = 4096};
  StepPlan plan;
  plan.trace = SmallTrace();
  plan.nodes = {
      {.kind = NodeKind::kRead, .lane = Lane::kNvmeRead, .to = host},
      {.kind = NodeKind::kCopyIn, .lane = Lane::kH2d, .from = host, .to = device},
      {.kind = NodeKind::kRun, .lane = Lane::kCompute},
      {.kind = NodeKind::kCopyOut,
       .lane = Lane::kD2h,
       .block = BlockId(1),
       .from = device,
       .to = host},
      {.kind = NodeKind::kWrite, .lane = Lane::kNvmeWrite, .block = BlockId(1), .from = host},
  };
  return plan;
}

TEST(StepPlanTest, NodesAreNamedByWhatTheyDoAndToWhat) {
  StepPlan plan = SmallPlan();
  std::vector<std::string> names;
  for (NodeIndex node = 0; node < plan.nodes.size(); ++node) names.push_back(NodeName(plan, node));
  EXPECT_THAT(names, ElementsAre("read w", "copy in w", "run forward", "copy out x", "write x"));
}

TEST(StepPlanTest, TrafficIsCountedPerLaneAndOnNvmePerPurposeInWholeSlots) {
  Traffic traffic = TrafficOf(SmallPlan());
  EXPECT_THAT(traffic.bytes_by_lane, ElementsAre(4096, 4096, 4096, 4096, 0, 0, 0));
  EXPECT_THAT(traffic.nvme_read_by_purpose, ElementsAre(Pair("weights", 4096)));
  EXPECT_THAT(traffic.nvme_written_by_purpose, ElementsAre(Pair("activations", 4096)));
}

TEST(StepPlanTest, OnlyStepBlocksWrittenToNvmeAreSpilled) {
  StepPlan plan = SmallPlan();
  EXPECT_THAT(SpilledBlocks(plan), ElementsAre(BlockId(1)));
  plan.nodes.back().block = BlockId(0);
  EXPECT_THAT(SpilledBlocks(plan), ElementsAre());
}

}  // namespace
}  // namespace strata::prefetch
