#include "prefetch/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/prefetch/hand_plan.h"

namespace strata::prefetch {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A compiler's mistake, made in the hand-written plan: Verify must refuse it with a message that
// matches.
template <typename Break, typename Matcher>
void ExpectCaught(Break break_it, Matcher message) {
  StepPlan plan = HandPlan();
  break_it(plan);
  const Status status = Verify(plan);
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(), message);
}

TEST(VerifyTest, AcceptsACorrectPlan) {
  const Status status = Verify(HandPlan());
  EXPECT_TRUE(status.ok()) << status.ToString();
}

TEST(VerifyTest, CatchesADeviceSlotReusedWhileItsBlockIsStillRead) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[9].deps = {8};
        plan.nodes[8].deps = {};
      },
      HasSubstr("nothing orders them"));
}

TEST(VerifyTest, CatchesAHostSlotReusedBeforeItsBlockIsWrittenBack) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[8].deps = {5}; },
               AllOf(HasSubstr("node 8 (read v)"), HasSubstr("node 6 (write w) still reads")));
}

TEST(VerifyTest, CatchesAWorkspaceThatLiesOverABlockInUse) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[14].workspace = Pages(Tier::kHost, 4, 1); },
               AllOf(HasSubstr("end of step: resident m"), HasSubstr("run unstash")));
}

TEST(VerifyTest, CatchesAWorkspaceThatSharesBytesWithAnOperand) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[14].workspace = Pages(Tier::kHost, 1, 1); },
               AllOf(HasSubstr("node 14 (run unstash)"), HasSubstr("share bytes")));
}

TEST(VerifyTest, CatchesAWorkspaceTakenWhileASpillStillReadsThere) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[14].workspace = Pages(Tier::kHost, 3, 1);
        plan.nodes[13].deps = {9};
      },
      HasSubstr("read of nvme: may run while node 12 (write s) still writes"));
}

TEST(VerifyTest, CatchesTwoOperandsInTheSameBytes) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[2].operands[1] = Pages(Tier::kDevice, 1, 2); },
               HasSubstr("share bytes"));
}

TEST(VerifyTest, CatchesAMissingDependencyOnACopy) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[2].deps = {}; },
               AllOf(HasSubstr("node 2 (run forward)"), HasSubstr("node 1 (copy in w) still")));
}

TEST(VerifyTest, CatchesAMissingDependencyOnARead) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[1].deps = {}; },
               AllOf(HasSubstr("node 1 (copy in w)"), HasSubstr("node 0 (read w) still")));
}

TEST(VerifyTest, CatchesAVersionReadWithoutAnOrderAfterItsWriter) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.trace.ops[2].accesses[0].mode = AccessMode::kRead;
        plan.nodes[4].deps = {};
      },
      AllOf(HasSubstr("data dependency on g"), HasSubstr("node 3 (run backward)")));
}

TEST(VerifyTest, CatchesAVersionOverwrittenWithoutAnOrderAfterItsReaders) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[5].deps = {0}; },
               AllOf(HasSubstr("next write of w"), HasSubstr("node 2 (run forward)")));
}

TEST(VerifyTest, DoesNotTakeTheOrderOfAnNvmeLaneForAHappensBefore) {
  // Node 8 is issued after node 0, but may end before it.
  ExpectCaught([](StepPlan& plan) { plan.nodes[9].deps = {3}; },
               AllOf(HasSubstr("node 9 (copy in v)"), HasSubstr("node 8 (read v) still writes")));
}

TEST(VerifyTest, CatchesAStaleVersionInATransfer) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[4].version = 1; },
               AllOf(HasSubstr("expects g version 1"), HasSubstr("finds g version 2")));
}

TEST(VerifyTest, CatchesAWriteBackOfTheOldVersion) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[6].version = 0;
        plan.nodes[6].deps = {0};
      },
      AllOf(HasSubstr("node 6 (write w)"), HasSubstr("finds w version 1")));
}

TEST(VerifyTest, CatchesAnOperandThatPointsIntoTheMiddleOfItsBlock) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[10].operands[0] = Pages(Tier::kDevice, 1, 2); },
               AllOf(HasSubstr("node 10 (run check)"), HasSubstr("expects v version 0")));
}

TEST(VerifyTest, CatchesAnOperandThatWasNeverFetched) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[10].operands[0] = Pages(Tier::kDevice, 2, 2); },
               AllOf(HasSubstr("expects v version 0"), HasSubstr("finds g version 2")));
}

TEST(VerifyTest, CatchesAnExceededDeviceBudget) {
  ExpectCaught([](StepPlan& plan) { plan.budgets.device_bytes -= 4096; },
               AllOf(HasSubstr("node 2 (run forward)"), HasSubstr("outside the budget")));
}

TEST(VerifyTest, CatchesAnExceededHostBudget) {
  ExpectCaught([](StepPlan& plan) { plan.budgets.host_bytes -= 1; },
               AllOf(HasSubstr("node 5 (run update)"), HasSubstr("outside the budget")));
}

TEST(VerifyTest, CatchesAnOffsetThatWrapsAround) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[0].to.offset_bytes = ~uint64_t{4095}; },
               HasSubstr("outside the budget"));
}

TEST(VerifyTest, CatchesASlotThatIsTooSmall) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[0].to.size_bytes = 4096; },
               HasSubstr("smaller than the 8192 bytes"));
}

TEST(VerifyTest, CatchesAMisalignedSlot) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[2].workspace->offset_bytes -= 512; },
               HasSubstr("not a multiple of 4096"));
}

TEST(VerifyTest, CatchesASlotInTheWrongTier) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[5].operands[0].tier = Tier::kDevice; },
               HasSubstr("must be in the host tier"));
}

TEST(VerifyTest, CatchesANodeOnTheWrongLane) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[1].lane = Lane::kD2h; }, HasSubstr("not on h2d"));
  ExpectCaught([](StepPlan& plan) { plan.nodes[3].lane = Lane::kComm; },
               HasSubstr("belongs on compute"));
}

TEST(VerifyTest, CatchesAMissingOp) {
  ExpectCaught([](StepPlan& plan) { plan.nodes.pop_back(); }, HasSubstr("no node runs op unstash"));
}

TEST(VerifyTest, CatchesAnOpThatRunsTwice) {
  ExpectCaught([](StepPlan& plan) { plan.nodes.push_back(plan.nodes[10]); },
               AllOf(HasSubstr("node 15 (run check)"), HasSubstr("node 10 has run")));
}

TEST(VerifyTest, CatchesOpsOutOfTraceOrderOnALane) {
  ExpectCaught([](StepPlan& plan) { std::swap(plan.nodes[11], plan.nodes[14]); },
               HasSubstr("depends on node 13, which is not before it"));
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[14].deps = {};
        std::swap(plan.nodes[11], plan.nodes[14]);
      },
      HasSubstr("out of trace order"));
}

TEST(VerifyTest, CatchesADependencyOnItselfOrALaterNode) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[4].deps = {3, 4}; }, HasSubstr("not before it"));
  ExpectCaught([](StepPlan& plan) { plan.nodes[4].deps = {1, 6}; }, HasSubstr("not before it"));
}

TEST(VerifyTest, CatchesDependenciesThatAreNotSortedAndUnique) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[5].deps = {4, 0}; }, HasSubstr("sorted and unique"));
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[5].deps = {0, 4, 4};
      },
      HasSubstr("sorted and unique"));
}

TEST(VerifyTest, CatchesAReadOfASpilledBlockBeforeItsWrite) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[13].deps = {9, 11};
      },
      AllOf(HasSubstr("node 13 (read s)"), HasSubstr("node 12 (write s) still writes")));
}

TEST(VerifyTest, CatchesAReadOfABlockThatNvmeDoesNotHold) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[0].block = BlockId{1}; },
               AllOf(HasSubstr("read of nvme"), HasSubstr("finds nothing of use")));
}

TEST(VerifyTest, CatchesAWriteToNvmeThatOvertakesARead) {
  // The update writes w elsewhere and no longer waits for the read of the old version.
  StepPlan plan = HandPlan();
  plan.budgets.host_bytes += 2 * 4096;
  plan.trace.ops[0].accesses.erase(plan.trace.ops[0].accesses.begin());
  plan.trace.ops[1].accesses.pop_back();
  plan.trace.ops[2].accesses[0].mode = AccessMode::kWrite;
  plan.nodes[2].operands.erase(plan.nodes[2].operands.begin());
  plan.nodes[3].operands.pop_back();
  plan.nodes[2].deps = {};
  plan.nodes[5].deps = {4};
  plan.nodes[5].operands[0] = Pages(Tier::kHost, 6, 2);
  plan.nodes[6].from = Pages(Tier::kHost, 6, 2);
  EXPECT_THAT(Verify(plan).message(),
              HasSubstr("node 6 (write w): write to nvme: may write while node 0 (read w) still"));
}

TEST(VerifyTest, CatchesALostWriteBack) {
  ExpectCaught([](StepPlan& plan) { plan.nodes[7] = plan.nodes[6]; }, AllOf(HasSubstr("write w")));
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[7] = plan.nodes[8];
        plan.nodes[7].block = BlockId{4};
        plan.nodes[7].to = Pages(Tier::kHost, 6, 2);
        plan.budgets.host_bytes += 2 * 4096;
      },
      AllOf(HasSubstr("end of step: c on nvme"), HasSubstr("expects c version 1")));
}

TEST(VerifyTest, CatchesAResidentThatIsGoneAtTheEndOfTheStep) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes[13].to = Pages(Tier::kHost, 4, 2);
        plan.nodes[13].deps = {7, 9, 12};
        plan.nodes[14].operands[0] = Pages(Tier::kHost, 4, 2);
      },
      AllOf(HasSubstr("end of step: resident m"), HasSubstr("finds s version 1")));
}

TEST(VerifyTest, CatchesACachedCopyThatMissedTheLastVersion) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.budgets.host_bytes += 2 * 4096;
        plan.residents.push_back({.block = BlockId{0}, .slot = Pages(Tier::kHost, 6, 2)});
      },
      AllOf(HasSubstr("end of step: resident w"), HasSubstr("finds w version 0")));
}

TEST(VerifyTest, CatchesABlockAtHomeInMemoryWithoutASlot) {
  ExpectCaught([](StepPlan& plan) { plan.residents.erase(plan.residents.begin()); },
               HasSubstr("block m at home on host has 0 resident slots"));
}

TEST(VerifyTest, CatchesABlockThatIsResidentTwice) {
  // v is only read, so that both copies would be right.
  ExpectCaught(
      [](StepPlan& plan) {
        plan.budgets.host_bytes += 4 * 4096;
        plan.residents.push_back({.block = BlockId{4}, .slot = Pages(Tier::kHost, 6, 2)});
        plan.residents.push_back({.block = BlockId{4}, .slot = Pages(Tier::kHost, 8, 2)});
      },
      HasSubstr("block v at home on nvme has 2 resident slots"));
}

TEST(VerifyTest, CatchesTheStoreBeingAskedForABlockAtHomeInMemory) {
  ExpectCaught(
      [](StepPlan& plan) {
        plan.nodes.push_back(plan.nodes[7]);
        plan.nodes.back().block = BlockId{2};
        plan.nodes.back().from = Pages(Tier::kHost, 4, 1);
      },
      AllOf(HasSubstr("node 15 (write m)"), HasSubstr("block m is at home on host, not on nvme")));
}

TEST(VerifyTest, CatchesResidentsThatShareBytes) {
  ExpectCaught([](StepPlan& plan) { plan.residents[1].slot = plan.residents[0].slot; },
               HasSubstr("residents m and c share bytes"));
}

TEST(VerifyTest, ChecksAPlanOfTwentyThousandNodes) {
  // A chain of copies in and out between two slots: every node conflicts with its neighbours.
  StepPlan plan = ReadsOnly(1);
  plan.budgets.device_bytes = 2 * 4096;
  const Slot host = Pages(Tier::kHost, 0, 2);
  const Slot device = Pages(Tier::kDevice, 0, 2);
  for (NodeIndex i = 1; i < 20'000; ++i) {
    const bool in = i % 2 == 1;
    plan.nodes.push_back({.kind = in ? NodeKind::kCopyIn : NodeKind::kCopyOut,
                          .lane = in ? Lane::kH2d : Lane::kD2h,
                          .deps = {i - 1},
                          .from = in ? host : device,
                          .to = in ? device : host});
  }
  EXPECT_TRUE(Verify(plan).ok()) << Verify(plan).ToString();
  plan.nodes[15'000].deps.clear();
  EXPECT_THAT(Verify(plan).message(), HasSubstr("node 15000 (copy out b0)"));
}

}  // namespace
}  // namespace strata::prefetch
