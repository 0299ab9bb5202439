#include "prefetch/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <string>
#include <thread>

#include "prefetch/compile.h"
#include "prefetch/verify.h"
#include "tests/fakes/no_threads.h"
#include "tests/fakes/training_trace.h"
#include "tests/prefetch/hand_plan.h"
#include "tests/prefetch/plan_rig.h"
#include "tests/prefetch/random_trace.h"

namespace strata::prefetch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

void ExpectSameAsInOrder(StepPlan plan, int num_steps, const ExecutorOptions& options = {},
                         const fakes::FaultOptions& faults = {}) {
  PlanRig rig(std::move(plan), options, {}, faults);
  TraceInterpreter expected(rig.plan().trace);
  const Status run = rig.Run(num_steps);
  ASSERT_TRUE(run.ok()) << run.ToString();
  for (int step = 0; step < num_steps; ++step) expected.Step();
  const Status same = rig.CompareTo(expected);
  EXPECT_TRUE(same.ok()) << same.ToString();
}

TEST(ExecutorTest, GivesTheContentsThatTheOpsGiveInOrder) { ExpectSameAsInOrder(HandPlan(), 3); }

TEST(ExecutorTest, GivesThemWithOneReadAndWriteAtATime) {
  ExpectSameAsInOrder(HandPlan(), 2, {.io_nodes_in_flight = 1});
}

TEST(ExecutorTest, LoadsCachedBlocksOfBothTiersBeforeTheFirstStep) {
  StepPlan plan = HandPlan();
  plan.budgets.device_bytes += 2 * 4096;
  plan.residents.push_back({.block = BlockId{4}, .slot = Pages(Tier::kDevice, 5, 2)});
  plan.nodes[10].operands[0] = Pages(Tier::kDevice, 5, 2);  // check finds v there
  ASSERT_TRUE(Verify(plan).ok()) << Verify(plan).ToString();
  ExpectSameAsInOrder(std::move(plan), 2);
}

TEST(ExecutorTest, ReadsOneBlockTwiceAtOnceWithoutHavingBothInFlight) {
  StepPlan plan = ReadsOnly(3);
  plan.nodes[1].block = plan.nodes[2].block = plan.nodes[0].block;
  ExpectSameAsInOrder(std::move(plan), 2);
}

TEST(ExecutorTest, RunsAnEmptyPlan) { ExpectSameAsInOrder(StepPlan{}, 2); }

TEST(ExecutorTest, NeverStartsANodeBeforeItsDependenciesHaveEnded) {
  PlanRig rig(CompileTightly(RandomTrace(3), 8));
  ASSERT_TRUE(rig.Run(2).ok());
  const Timeline& timeline = rig.last_timeline();
  ASSERT_EQ(timeline.spans.size(), rig.plan().nodes.size());
  for (const Span& span : timeline.spans) {
    EXPECT_LE(0, span.start_s);
    EXPECT_LE(span.start_s, span.end_s);
    EXPECT_LE(span.end_s, timeline.step_s);
    for (NodeIndex dep : rig.plan().nodes[span.node].deps) {
      EXPECT_LE(timeline.spans[dep].end_s, span.start_s) << dep << " -> " << span.node;
    }
  }
}

class RandomRunsTest : public testing::TestWithParam<std::tuple<uint32_t, double>> {};

INSTANTIATE_TEST_SUITE_P(All, RandomRunsTest,
                         testing::Combine(testing::Values(0u, 3u, 32u), testing::Values(1.0, 2.0)));

TEST_P(RandomRunsTest, GiveTheContentsThatTheOpsGiveInOrder) {
  const auto [prefetch_ops, slack] = GetParam();
  for (uint32_t seed = 0; seed < 6; ++seed) {
    SCOPED_TRACE(seed);
    ExpectSameAsInOrder(CompileTightly(RandomTrace(seed), prefetch_ops, slack), 2);
  }
}

Trace SmallTraining() {
  return fakes::TrainingTrace({.num_layers = 2,
                               .embedding_elements = 3000,
                               .attention_elements = 2500,
                               .mlp_elements = 5000,
                               .chunk_elements = 2048,
                               .hidden_bytes = 5000,
                               .device_workspace_bytes = 4096,
                               .host_workspace_bytes = 4096,
                               .clip = true});
}

TEST(ExecutorTest, RunsATrainingStepFromNvme) {
  for (uint32_t prefetch_ops : {0u, 8u})
    ExpectSameAsInOrder(CompileTightly(SmallTraining(), prefetch_ops), 3);
}

std::vector<fakes::FaultChance> ADriveWithMoods() {
  std::vector<fakes::FaultChance> chances;
  for (aio::IoDirection direction : {aio::IoDirection::kRead, aio::IoDirection::kWrite}) {
    for (fakes::FaultKind kind :
         {fakes::FaultKind::kDelayed, fakes::FaultKind::kReordered, fakes::FaultKind::kShort})
      chances.push_back({direction, {kind}, 0.1});
  }
  return chances;
}

TEST(ExecutorTest, ADriveThatIsLateAndOutOfOrderGivesTheSameContents) {
  for (uint64_t seed : {1, 2}) {
    ExpectSameAsInOrder(CompileTightly(SmallTraining(), 8), 2, {},
                        {.seed = seed, .chances = ADriveWithMoods()});
  }
}

// Wherever it strikes, with much else in flight, the step ends with this error and does not stall.
TEST(ExecutorTest, ADeviceErrorAnywhereInAStepEndsItWithOneClearError) {
  const StepPlan plan = CompileTightly(SmallTraining(), 8);
  for (uint64_t nth = 1; nth <= 16; nth += 3) {
    for (bool is_read : {true, false}) {
      PlanRig rig(plan, {}, {}, {.seed = nth, .chances = ADriveWithMoods()});
      ASSERT_TRUE(rig.executor().Prime().ok());
      is_read ? rig.engine().SpoilRead({}, nth) : rig.engine().SpoilWrite({}, nth);
      const Status status = rig.executor().RunStep().status();
      EXPECT_EQ(status.code(), Code::kIoError) << nth;
      EXPECT_THAT(status.message(), AllOf(StartsWith(is_read ? "read " : "write "),
                                          HasSubstr(": Input/output error")));
    }
  }
}

// Runs the stand-ins, except that the op of this name fails.
RunOp FailingAt(const Trace& trace, const std::string& name, std::atomic<bool>* ran_later) {
  return [&trace, name, ran_later](OpId op, const Operands& operands,
                                   const tiering::StreamContext&) -> Status {
    const std::string& op_name = trace.ops[Index(op)].name;
    if (op_name == name) return Status(Code::kDataLoss, "the op says no");
    if (op_name == "unstash") *ran_later = true;
    return RunStandIn(trace, op, operands);
  };
}

TEST(ExecutorTest, AFailingOpStopsTheStepAndIsNamed) {
  const StepPlan plan = HandPlan();
  for (const char* name : {"forward", "backward", "update", "stash"}) {
    std::atomic<bool> ran_later = false;
    PlanRig rig(plan, {}, FailingAt(plan.trace, name, &ran_later));
    const Status status = rig.Run(1);
    EXPECT_EQ(status.code(), Code::kDataLoss);
    EXPECT_EQ(status.message(), std::string("run ") + name + ": the op says no");
    EXPECT_FALSE(ran_later) << "unstash waits for " << name;
  }
}

TEST(ExecutorTest, AFailureIsPutDownToTheNodeWhereItBeganOnPlansOfManyStreams) {
  const Trace trace = RandomTrace(5);
  const StepPlan plan = CompileTightly(trace, 16, 2);
  for (size_t op = 0; op < trace.ops.size(); op += 6) {
    const std::string& name = trace.ops[op].name;
    std::atomic<bool> unused = false;
    PlanRig rig(plan, {}, FailingAt(trace, name, &unused));
    EXPECT_EQ(rig.Run(1).message(), "run " + name + ": the op says no");
  }
}

TEST(ExecutorTest, AFailingReadStopsTheStepAndIsNamed) {
  PlanRig rig(HandPlan());
  ASSERT_TRUE(rig.executor().Prime().ok());
  rig.engine().SpoilRead({}, 1);
  const Status status = rig.executor().RunStep().status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), AllOf(StartsWith("read w: "), HasSubstr("block 'w'")));
}

TEST(ExecutorTest, AFailingWriteStopsTheStepAndIsNamed) {
  PlanRig rig(HandPlan());
  ASSERT_TRUE(rig.executor().Prime().ok());
  rig.engine().SpoilWrite({}, 1);
  const Status status = rig.executor().RunStep().status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), AllOf(StartsWith("write w: "), HasSubstr("block 'w'")));
}

TEST(ExecutorTest, AFlippedBitIsDataLossAndIsNamed) {
  PlanRig rig(HandPlan());
  ASSERT_TRUE(rig.executor().Prime().ok());
  rig.engine().SpoilWrite({fakes::FaultKind::kFlipped}, 3);  // w, c, then s
  const Status status = rig.executor().RunStep().status();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), AllOf(StartsWith("read s: "), HasSubstr("checksum")));
}

TEST(ExecutorTest, AFailureWhilePrimingNamesTheBlock) {
  PlanRig rig(HandPlan());
  rig.engine().SpoilRead({}, 1);
  EXPECT_THAT(rig.executor().Prime().message(), StartsWith("load cached c: "));
}

// "blocked" on the compute lane, and "after" on the cpu lane, which waits for it.
StepPlan TwoOpsInARow() {
  StepPlan plan;
  plan.trace.ops = {{.name = "blocked", .lane = Lane::kCompute},
                    {.name = "after", .lane = Lane::kCpu}};
  plan.nodes = {{.lane = Lane::kCompute, .op = OpId{0}},
                {.lane = Lane::kCpu, .deps = {0}, .op = OpId{1}}};
  return plan;
}

// What the executor says of itself in a step, once `reached` holds.
std::string LanesWhen(PlanRig& rig, const std::function<bool(StepProgress)>& reached,
                      const std::function<void()>& let_go) {
  std::promise<Status> ended;
  std::jthread step([&] { ended.set_value(rig.Run(1)); });
  while (!reached(rig.executor().progress())) std::this_thread::yield();
  std::string lanes = rig.executor().DescribeLanes();
  let_go();
  EXPECT_EQ(ended.get_future().get().ToString(), "ok");
  return lanes;
}

TEST(ExecutorTest, AStepThatHangsSaysWhatEachLaneWaitsFor) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  PlanRig rig(TwoOpsInARow(), {}, [&](OpId op, const Operands&, const tiering::StreamContext&) {
    if (op == OpId{0}) released.wait();
    return OkStatus();
  });
  EXPECT_EQ(LanesWhen(
                rig, [](StepProgress progress) { return progress.lanes_working == 1; },
                [&] { release.set_value(); }),
            "lane compute: run blocked (node 0) has not ended; "
            "lane cpu: run after (node 1) waits for run blocked (node 0)");
  EXPECT_EQ(rig.executor().progress().nodes_ended, 2u);
  EXPECT_EQ(rig.executor().progress().lanes_working, 0u);
}

TEST(ExecutorTest, AReadThatNeverEndsIsFirstInWhatIsSaid) {
  PlanRig rig(HandPlan());
  rig.engine().SpoilRead({fakes::FaultKind::kHung}, 2);  // after the cached copy
  const std::string lanes = LanesWhen(
      rig,
      [](StepProgress progress) { return progress.nodes_ended == 0 && progress.lanes_working; },
      [&] { rig.engine().LetGo(); });
  EXPECT_THAT(lanes, StartsWith("lane nvme-read: read w (node 0) waits for the drive; "));
  EXPECT_THAT(lanes, HasSubstr("run update (node 5) waits for read w (node 0) and 1 more"));
  EXPECT_THAT(lanes, HasSubstr("; lane h2d: copy in w (node 1) waits for read w (node 0); "));
}

// "first" and "second" on the compute lane, and "failing" on the cpu lane.
StepPlan TwoOpsBesideOne() {
  StepPlan plan;
  plan.trace.ops = {{.name = "first", .lane = Lane::kCompute},
                    {.name = "second", .lane = Lane::kCompute},
                    {.name = "failing", .lane = Lane::kCpu}};
  plan.nodes = {{.lane = Lane::kCompute, .op = OpId{0}},
                {.lane = Lane::kCompute, .op = OpId{1}},
                {.lane = Lane::kCpu, .op = OpId{2}}};
  return plan;
}

TEST(ExecutorTest, AStepThatFailsEndsOnlyWhenWhatIsOnAStreamIsOver) {
  std::promise<void> first_began, failing_began, step_ended;
  std::shared_future<void> end_of_step = step_ended.get_future().share();
  // Time for what is under way elsewhere, and for a step to end that does not wait.
  const auto linger = [&] { end_of_step.wait_for(std::chrono::milliseconds(50)); };
  bool second_is_over = false;
  PlanRig rig(TwoOpsBesideOne(), {},
              [&](OpId op, const Operands&, const tiering::StreamContext&) -> Status {
                if (op == OpId{0}) {
                  first_began.set_value();
                  failing_began.get_future().wait();
                  linger();  // the step fails
                } else if (op == OpId{1}) {
                  linger();  // the step would end
                  second_is_over = true;
                } else {
                  first_began.get_future().wait();
                  linger();  // the second op is put on the stream
                  failing_began.set_value();
                  return Status(Code::kDataLoss, "the op says no");
                }
                return OkStatus();
              });
  EXPECT_EQ(rig.Run(1).message(), "run failing: the op says no");
  EXPECT_TRUE(second_is_over);
  step_ended.set_value();
}

TEST(ExecutorTest, AStepWithoutAllItsThreadsDoesNotBeginAndSaysWhy) {
  const auto device = tiering::CreateCpuDevice(4096);
  const auto host = tiering::Arena::Create("host", 4096);
  ASSERT_TRUE(device.ok() && host.ok());
  const StepPlan plan = TwoOpsInARow();
  const ExecutorParts parts{
      .device = device->get(), .host = &*host, .store_blocks = {}, .run = [](auto&&...) {
        return Internal("an op ran");
      }};
  fakes::NoThreads none;
  const Status status = Executor(plan, parts, {}).RunStep().status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("a thread of the executor"));
}

TEST(ExecutorDeathTest, IsUsedUpAfterAFailure) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  PlanRig rig(HandPlan());
  ASSERT_TRUE(rig.executor().Prime().ok());
  rig.engine().SpoilRead({}, 1);
  ASSERT_FALSE(rig.executor().RunStep().ok());
  // The process that dies leaves nothing behind.
  EXPECT_DEATH((std::filesystem::remove_all(rig.directory()), (void)rig.executor().RunStep()),
               "used_up_");
}

}  // namespace
}  // namespace strata::prefetch
