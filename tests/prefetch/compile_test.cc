#include "prefetch/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "aio/base/units.h"
#include "prefetch/verify.h"
#include "tests/fakes/training_trace.h"
#include "tests/prefetch/random_trace.h"

namespace strata::prefetch {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kSlot = 4096;  // blocks of the small traces take one if nothing else is said

class SmallTrace {
 public:
  BlockId Persistent(std::string name, Tier home = Tier::kNvme, uint64_t slots = 1) {
    trace_.blocks.push_back({.name = std::move(name),
                             .purpose = "state",
                             .size_bytes = slots * kSlot,
                             .lifetime = Lifetime::kPersistent,
                             .home = home});
    return static_cast<BlockId>(trace_.blocks.size() - 1);
  }
  BlockId Step(std::string name) {
    BlockId block = Persistent(std::move(name));
    trace_.blocks.back().lifetime = Lifetime::kStep;
    return block;
  }
  void Op(std::string name, Lane lane, std::vector<Access> accesses) {
    trace_.ops.push_back({.name = std::move(name), .lane = lane, .accesses = std::move(accesses)});
  }
  // The plan for `device` and `host` slots; it has passed Verify().
  StepPlan Plan(uint64_t device, uint64_t host, uint32_t prefetch_ops = 0) const {
    Result<StepPlan> plan =
        Compile(trace_, {.budgets = {device * kSlot, host * kSlot}, .prefetch_ops = prefetch_ops});
    EXPECT_TRUE(plan.ok()) << plan.status().ToString();
    EXPECT_TRUE(Verify(*plan).ok()) << Verify(*plan).ToString();
    return *plan;
  }

 private:
  Trace trace_;
};

Access Reads(BlockId block) { return {block, AccessMode::kRead}; }
Access Writes(BlockId block) { return {block, AccessMode::kWrite}; }
Access Updates(BlockId block) { return {block, AccessMode::kReadWrite}; }

std::vector<std::string> NamesOf(const StepPlan& plan) {
  std::vector<std::string> names;
  for (NodeIndex node = 0; node < plan.nodes.size(); ++node) names.push_back(NodeName(plan, node));
  return names;
}

std::vector<std::string> NamesOfResidents(const StepPlan& plan) {
  std::vector<std::string> names;
  for (const Resident& resident : plan.residents)
    names.push_back(plan.trace.blocks[Index(resident.block)].name);
  return names;
}

NodeIndex Find(const StepPlan& plan, const std::string& name) {
  std::vector<std::string> names = NamesOf(plan);
  return static_cast<NodeIndex>(std::ranges::find(names, name) - names.begin());
}

std::vector<std::string> DepsOf(const StepPlan& plan, const std::string& name) {
  std::vector<std::string> deps;
  for (NodeIndex dep : plan.nodes[Find(plan, name)].deps) deps.push_back(NodeName(plan, dep));
  return deps;
}

TEST(CompileTest, ADeviceOperandIsReadCopiedInAndUsedAndAnUpdateGoesHome) {
  SmallTrace trace;
  BlockId w = trace.Persistent("w"), other = trace.Persistent("other");
  trace.Op("f", Lane::kCompute, {Updates(w)});
  trace.Op("g", Lane::kCompute, {Reads(other)});  // takes over both slots of w
  StepPlan plan = trace.Plan(1, 1);
  EXPECT_THAT(NamesOf(plan), ElementsAre("read w", "copy in w", "run f", "copy out w", "write w",
                                         "read other", "copy in other", "run g"));
  EXPECT_THAT(DepsOf(plan, "read w"), IsEmpty());
  EXPECT_THAT(DepsOf(plan, "copy in w"), ElementsAre("read w"));
  EXPECT_THAT(DepsOf(plan, "run f"), ElementsAre("copy in w"));
  EXPECT_THAT(DepsOf(plan, "copy out w"), ElementsAre("run f"));
  // The store does one thing at a time per block.
  EXPECT_THAT(DepsOf(plan, "write w"), ElementsAre("read w", "copy out w"));
  EXPECT_EQ(plan.nodes[Find(plan, "write w")].version, 1u);
}

TEST(CompileTest, ASlotsNextTenantWaitsForItsLastUser) {
  SmallTrace trace;
  BlockId a = trace.Persistent("a"), b = trace.Persistent("b");
  trace.Op("f", Lane::kCpu, {Reads(a)});
  trace.Op("g", Lane::kCpu, {Updates(b)});
  trace.Op("h", Lane::kCpu, {Reads(a)});
  StepPlan plan = trace.Plan(0, 1, 4);
  // The a of the last op is still there when the next step starts.
  EXPECT_THAT(NamesOf(plan), ElementsAre("run f", "read b", "run g", "write b", "read a", "run h"));
  EXPECT_THAT(DepsOf(plan, "read b"), ElementsAre("run f"));
  EXPECT_THAT(DepsOf(plan, "read a"), ElementsAre("write b"));
}

TEST(CompileTest, WhatIsReadAgainLatestIsEvicted) {
  SmallTrace trace;
  BlockId a = trace.Persistent("a"), b = trace.Persistent("b"), c = trace.Persistent("c");
  for (BlockId block : {a, b, c, a, b}) trace.Op("f", Lane::kCpu, {Reads(block)});
  // The step starts with a and b. For c one of them must go: b, since a is read before it.
  StepPlan plan = trace.Plan(0, 2);
  EXPECT_THAT(NamesOfResidents(plan), ElementsAre("a", "b"));
  EXPECT_THAT(NamesOf(plan),
              ElementsAre("run f", "run f", "read c", "run f", "run f", "read b", "run f"));
}

TEST(CompileTest, WhatFitsIsReadOnceBeforeTheFirstStepAndNeverAgain) {
  SmallTrace trace;
  BlockId w = trace.Persistent("w"), m = trace.Persistent("m");
  trace.Op("f", Lane::kCompute, {Reads(w)});
  trace.Op("adam", Lane::kCpu, {Updates(m), Writes(w)});
  StepPlan plan = trace.Plan(1, 2);
  EXPECT_THAT(NamesOfResidents(plan), ElementsAre("w", "m"));
  EXPECT_THAT(NamesOf(plan), ElementsAre("copy in w", "run f", "run adam", "write m", "write w"));
  EXPECT_FALSE(plan.residents[0].is_home);
}

TEST(CompileTest, ABlockThatIsOverwrittenIsNotReadFirst) {
  SmallTrace trace;
  BlockId tokens = trace.Persistent("tokens");
  trace.Op("load", Lane::kCpu, {Writes(tokens)});
  EXPECT_THAT(NamesOf(trace.Plan(0, 1)), ElementsAre("run load", "write tokens"));
}

TEST(CompileTest, ABlockAtHomeInHostMemoryIsCopiedToTheDeviceAndItsUpdateComesBack) {
  SmallTrace trace;
  BlockId w = trace.Persistent("w", Tier::kHost);
  trace.Op("f", Lane::kCompute, {Updates(w)});
  trace.Op("adam", Lane::kCpu, {Updates(w)});
  trace.Op("g", Lane::kCompute, {Updates(w)});
  StepPlan plan = trace.Plan(1, 1);
  EXPECT_THAT(NamesOf(plan), ElementsAre("copy in w", "run f", "copy out w", "run adam",
                                         "copy in w", "run g", "copy out w"));
  EXPECT_TRUE(plan.residents[0].is_home);
}

TEST(CompileTest, ABlockAtHomeOnTheDeviceNeverMoves) {
  SmallTrace trace;
  BlockId w = trace.Persistent("w", Tier::kDevice);
  trace.Op("f", Lane::kCompute, {Reads(w)});
  trace.Op("g", Lane::kComm, {Updates(w)});
  EXPECT_THAT(NamesOf(trace.Plan(1, 0)), ElementsAre("run f", "run g"));
}

TEST(CompileTest, AStepBlockWithoutRoomInAnyMemoryIsSpilledAndReadBack) {
  SmallTrace trace;
  BlockId x = trace.Step("x"), y = trace.Step("y");
  trace.Op("f", Lane::kCpu, {Writes(x)});
  trace.Op("g", Lane::kCpu, {Writes(y)});
  trace.Op("h", Lane::kCpu, {Reads(x)});
  StepPlan plan = trace.Plan(0, 1);
  EXPECT_THAT(NamesOf(plan), ElementsAre("run f", "write x", "run g", "read x", "run h"));
  EXPECT_THAT(SpilledBlocks(plan), ElementsAre(x));
  // y was last used by g: nobody needs it moved.
  EXPECT_THAT(DepsOf(plan, "run g"), ElementsAre("write x"));
}

TEST(CompileTest, WhatCanBeReadAgainGoesBeforeASmallerBlockThatWouldBeSpilled) {
  SmallTrace trace;
  BlockId weights = trace.Persistent("w", Tier::kNvme, 16), x = trace.Step("x"),
          y = trace.Step("y");
  trace.Op("f", Lane::kCpu, {Reads(weights), Writes(x)});
  trace.Op("g", Lane::kCpu, {Writes(y)});
  trace.Op("h", Lane::kCpu, {Reads(y)});
  trace.Op("i", Lane::kCpu, {Reads(weights), Reads(x)});
  EXPECT_THAT(NamesOf(trace.Plan(0, 17)),
              ElementsAre("run f", "run g", "run h", "read w", "run i"));
}

// Two ops on different blocks that are both in host memory.
SmallTrace TwoOps() {
  SmallTrace trace;
  BlockId x = trace.Step("x"), y = trace.Step("y");
  trace.Op("load", Lane::kCpu, {Writes(x), Writes(y)});
  trace.Op("f", Lane::kCompute, {Reads(x)});
  trace.Op("g", Lane::kCompute, {Reads(y)});
  return trace;
}

TEST(CompileTest, WithoutPrefetchATransferWaitsForTheOpBeforeTheOneItServes) {
  StepPlan plan = TwoOps().Plan(2, 2, 0);
  EXPECT_THAT(NamesOf(plan), ElementsAre("run load", "copy in x", "run f", "copy in y", "run g"));
  EXPECT_THAT(DepsOf(plan, "copy in y"), ElementsAre("run f"));
}

TEST(CompileTest, WithPrefetchTheNextOpsOperandsComeWithoutWaitingForTheOp) {
  StepPlan plan = TwoOps().Plan(2, 2, 1);
  EXPECT_THAT(NamesOf(plan), ElementsAre("run load", "copy in x", "copy in y", "run f", "run g"));
  // It waits for "load", but that the copy before it on their serial lane does, too.
  EXPECT_THAT(DepsOf(plan, "copy in y"), IsEmpty());
}

TEST(CompileTest, KeptBlocksHoldTheirSlotsAndAreNotRead) {
  SmallTrace trace;
  BlockId blocks[] = {trace.Persistent("a"), trace.Persistent("b"), trace.Persistent("c")};
  for (BlockId block : blocks) trace.Op("f", Lane::kCpu, {Updates(block)});
  Trace parts = trace.Plan(0, 3).trace;
  Result<StepPlan> plan =
      Compile(parts, {.budgets = {0, 2 * kSlot}, .prefetch_ops = 0, .kept_host_bytes = kSlot});
  ASSERT_TRUE(plan.ok() && Verify(*plan).ok());
  EXPECT_THAT(NamesOfResidents(*plan), Contains("a"));
  EXPECT_THAT(NamesOf(*plan), AllOf(Not(Contains("read a")), Contains("write a")));
}

TEST(CompileTest, TheSameTraceGivesTheSamePlan) {
  Trace trace = fakes::TrainingTrace({});
  CompileOptions options{.budgets = {128_MiB, 192_MiB}, .prefetch_ops = 4};
  Result<StepPlan> first = Compile(trace, options), second = Compile(trace, options);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_EQ(NamesOf(*first), NamesOf(*second));
  for (size_t i = 0; i < first->nodes.size(); ++i) {
    EXPECT_EQ(first->nodes[i].deps, second->nodes[i].deps);
    EXPECT_EQ(first->nodes[i].from, second->nodes[i].from);
    EXPECT_EQ(first->nodes[i].to, second->nodes[i].to);
    EXPECT_EQ(first->nodes[i].operands, second->nodes[i].operands);
  }
}

TEST(CompileTest, PeaksStayInTheBudgetsAndAreSplitByPurpose) {
  StepPlan plan = *Compile(fakes::TrainingTrace({}), {.budgets = {128_MiB, 192_MiB}});
  EXPECT_LE(plan.peak_device_bytes, 128_MiB);
  EXPECT_LE(plan.peak_host_bytes, 192_MiB);
  for (size_t tier : {0, 1}) {
    uint64_t sum = 0;
    for (const auto& [purpose, bytes] : plan.peak_by_purpose[tier]) sum += bytes;
    EXPECT_GT(sum, 64_MiB);
    EXPECT_LE(sum, tier == 0 ? plan.peak_device_bytes : plan.peak_host_bytes);
    EXPECT_TRUE(plan.peak_by_purpose[tier].contains("workspace"));
  }
}

double BytesPerParameter(const StepPlan& plan, Lane lane,
                         const fakes::TrainingTraceOptions& options) {
  return static_cast<double>(TrafficOf(plan).bytes_by_lane[static_cast<size_t>(lane)]) /
         static_cast<double>(fakes::NumParameters(options));
}

TEST(CompileTest, WithAllStateOnNvmeAStepMovesNoMoreThanWeightsTwiceAndOptimizerOnce) {
  fakes::TrainingTraceOptions options{.num_layers = 8};
  for (uint32_t depth : {0, 2, 8}) {
    Result<StepPlan> plan = Compile(fakes::TrainingTrace(options),
                                    {.budgets = {256_MiB, 384_MiB}, .prefetch_ops = depth});
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    EXPECT_LE(BytesPerParameter(*plan, Lane::kNvmeRead, options), 16);
    EXPECT_LE(BytesPerParameter(*plan, Lane::kNvmeWrite, options), 14);
  }
}

TEST(CompileTest, MostOfHostMemoryOutlivesTheStep) {
  for (bool clip : {false, true}) {
    Trace trace = fakes::TrainingTrace({.num_layers = 12, .clip = clip});
    uint64_t host_bytes =
        clip ? 512_MiB : 256_MiB;  // with clipping all gradients are there at once
    for (uint32_t depth : {0, 1, 2}) {
      Result<StepPlan> plan =
          Compile(trace, {.budgets = {128_MiB, host_bytes}, .prefetch_ops = depth});
      ASSERT_TRUE(plan.ok()) << plan.status().ToString();
      uint64_t cached_bytes = 0;
      for (const Resident& resident : plan->residents)
        if (resident.slot.tier == Tier::kHost) cached_bytes += resident.slot.size_bytes;
      EXPECT_GT(cached_bytes, host_bytes / 2) << "depth " << depth << (clip ? " clipping" : "");
    }
  }
}

TEST(CompileTest, MoreHostMemoryReadsLessFromNvme) {
  fakes::TrainingTraceOptions options;
  Trace trace = fakes::TrainingTrace(options);
  double before = 1e9;
  for (uint64_t host : {96_MiB, 192_MiB, 384_MiB, 768_MiB, 1536_MiB}) {
    Result<StepPlan> plan = Compile(trace, {.budgets = {128_MiB, host}, .prefetch_ops = 2});
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    double now = BytesPerParameter(*plan, Lane::kNvmeRead, options);
    EXPECT_LE(now, before * 1.02) << FormatBytes(host);  // slots do not always fit as well
    before = now;
  }
  EXPECT_EQ(before, 0);  // all state fits in the last one
}

struct Scenario {
  fakes::TrainingTraceOptions options;
  Budgets budgets;
};

TEST(CompileTest, PlansOfTrainingStepsVerifyInEveryArrangement) {
  std::vector<Scenario> scenarios = {
      {{}, {54_MiB, 81_MiB}},
      {{.clip = true}, {64_MiB, 96_MiB}},
      {{.num_micro_batches = 1}, {128_MiB, 128_MiB}},
      {{.num_micro_batches = 4, .hidden_bytes = 8 << 20}, {128_MiB, 256_MiB}},
      {{.weights_home = Tier::kHost}, {64_MiB, 256_MiB}},
      {{.weights_home = Tier::kDevice, .optimizer_home = Tier::kHost}, {256_MiB, 1_GiB}},
      {{.optimizer_home = Tier::kHost, .clip = true}, {128_MiB, 1_GiB}}};
  for (const Scenario& scenario : scenarios) {
    for (uint32_t depth : {0, 3, 16}) {
      Result<StepPlan> plan =
          Compile(fakes::TrainingTrace(scenario.options),
                  {.budgets = scenario.budgets,
                   .prefetch_ops = depth,
                   .kept_host_bytes = scenario.budgets.host_bytes / 8 * (depth % 2)});
      ASSERT_TRUE(plan.ok()) << plan.status().ToString();
      Status verified = Verify(*plan);
      EXPECT_TRUE(verified.ok()) << verified.ToString();
    }
  }
}

TEST(CompileTest, PlansOfRandomTracesVerifyOrAreRefused) {
  int num_planned = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    Trace trace = RandomTrace(seed);
    auto slots = [&random] { return kSlot * (random() % 60); };
    CompileOptions options{.budgets = {slots(), slots()},
                           .prefetch_ops = static_cast<uint32_t>(random() % 9),
                           .kept_host_bytes = random() % 3 * 8 * kSlot};
    Result<StepPlan> plan = Compile(trace, options);
    if (!plan.ok()) {
      EXPECT_EQ(plan.status().code(), Code::kResourceExhausted);
      continue;
    }
    ++num_planned;
    Status verified = Verify(*plan);
    EXPECT_TRUE(verified.ok()) << "seed " << seed << ": " << verified.ToString();
  }
  EXPECT_GT(num_planned, 100);
}

TEST(CompileTest, AnInvalidTraceIsRefused) {
  Trace trace = fakes::TrainingTrace({});
  trace.blocks[0].size_bytes = 0;
  EXPECT_EQ(Compile(trace, {.budgets = {1_GiB, 1_GiB}}).status().code(), Code::kInvalidArgument);
}

TEST(CompileTest, ABudgetThatIsTooSmallForAnOpNamesTierOpNeedAndBudget) {
  SmallTrace trace;
  BlockId a = trace.Persistent("a"), b = trace.Persistent("b", Tier::kHost);
  trace.Op("update", Lane::kCpu, {Updates(a), Updates(b)});
  Trace parts = trace.Plan(0, 2).trace;
  Status status = Compile(parts, {.budgets = {0, kSlot}}).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("host memory"), HasSubstr("'update'"),
                                      HasSubstr("8 KiB"), HasSubstr("budget is 4 KiB")));
}

TEST(CompileTest, HostMemoryTooSmallToPassABlockThroughNamesTheBlock) {
  SmallTrace trace;
  trace.Op("f", Lane::kCompute, {Reads(trace.Persistent("w"))});
  Trace parts = trace.Plan(1, 1).trace;
  Status status = Compile(parts, {.budgets = {kSlot, 0}}).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("host memory"), HasSubstr("'f'"), HasSubstr("'w'"),
                                      HasSubstr("budget is 0 B")));
}

TEST(CompileTest, HomesThatDoNotFitAreRefused) {
  fakes::TrainingTraceOptions options{.optimizer_home = Tier::kHost};
  Status status = Compile(fakes::TrainingTrace(options), {.budgets = {1_GiB, 64_MiB}}).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("host memory"), HasSubstr("at home there")));
}

}  // namespace
}  // namespace strata::prefetch
