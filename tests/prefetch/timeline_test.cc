#include "prefetch/timeline.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "prefetch/simulate.h"
#include "tests/prefetch/hand_plan.h"

namespace strata::prefetch {
namespace {

constexpr size_t kRead = static_cast<size_t>(Lane::kNvmeRead);
constexpr size_t kWrite = static_cast<size_t>(Lane::kNvmeWrite);
constexpr size_t kH2d = static_cast<size_t>(Lane::kH2d);
constexpr size_t kCompute = static_cast<size_t>(Lane::kCompute);

Timeline MakeTimeline(std::vector<std::pair<double, double>> times, double step_s) {
  Timeline timeline{.spans = {}, .step_s = step_s};
  for (auto [start_s, end_s] : times) {
    const auto node = static_cast<NodeIndex>(timeline.spans.size());
    timeline.spans.push_back({.node = node, .start_s = start_s, .end_s = end_s});
  }
  return timeline;
}

double StalledSeconds(const LaneUse& use) {
  return std::accumulate(use.stalled_s.begin(), use.stalled_s.end(), 0.0,
                         [](double sum, const auto& entry) { return sum + entry.second; });
}

TEST(UseOfTest, OverlappingReadsCountOnce) {
  const LaneUse use = UseOf(ReadsOnly(3), MakeTimeline({{1, 3}, {1.5, 2}, {2, 5}}, 6))[kRead];
  EXPECT_DOUBLE_EQ(use.busy_s, 4);
  EXPECT_DOUBLE_EQ(use.idle_s, 1);
  EXPECT_DOUBLE_EQ(use.stalled_s.at("start"), 1);
  EXPECT_EQ(use.bytes, 3u * 8192);
}

TEST(UseOfTest, AGapIsPutDownToTheDependencyThatEndedLast) {
  StepPlan plan = HandPlan();
  // Node 9 (copy in v) waits for the read (8), which ends after the backward op (3).
  std::vector<std::pair<double, double>> times(plan.nodes.size(), {20, 20});
  times[0] = {0, 1};
  times[1] = {1, 2};
  times[3] = {2, 4};
  times[8] = {3, 6};
  times[9] = {7, 8};
  const LaneUse use = UseOf(plan, MakeTimeline(times, 20))[kH2d];
  EXPECT_EQ(use.stalled_s.size(), 1u);
  EXPECT_DOUBLE_EQ(use.stalled_s.at("nvme-read"), 1 + 5);
  EXPECT_DOUBLE_EQ(use.busy_s, 2);
  EXPECT_DOUBLE_EQ(use.idle_s, 12);
}

TEST(UseOfTest, AGapThatNoDependencyExplainsIsTheIssuing) {
  const LaneUse use = UseOf(ReadsOnly(2), MakeTimeline({{0, 1}, {3, 4}}, 4))[kRead];
  EXPECT_DOUBLE_EQ(use.stalled_s.at("issue"), 2);
}

TEST(UseOfTest, ALaneWithoutNodesIsIdle) {
  EXPECT_DOUBLE_EQ(UseOf(ReadsOnly(1), MakeTimeline({{0, 1}}, 7))[kCompute].idle_s, 7);
}

TEST(UseOfTest, BusyStallsAndIdleAddUpToTheStep) {
  const StepPlan plan = HandPlan();
  const Timeline timeline = Simulate(plan, Hardware{});
  for (const LaneUse& use : UseOf(plan, timeline)) {
    // Sums of some ten differences of doubles.
    EXPECT_NEAR(use.busy_s + StalledSeconds(use) + use.idle_s, timeline.step_s,
                1e-12 * timeline.step_s);
  }
}

Hardware SimpleHardware() {
  Hardware hardware;
  hardware.nvme_read_bytes_per_s = 2 * 8192;
  hardware.nvme_write_bytes_per_s = 4 * 8192;
  hardware.nvme_mixed_bytes_per_s = 3 * 8192;
  hardware.h2d_bytes_per_s = 8192;
  hardware.d2h_bytes_per_s = 8192;
  hardware.checksum_bytes_per_s = 8192;
  hardware.cores = 4;
  hardware.op_threads = 2;
  hardware.rates["forward"] = 2;
  return hardware;
}

TEST(BoundOfTest, CoresSumOpsCopiesAndChecksumsWithTheCoresTheyTake) {
  StepPlan plan = HandPlan();
  plan.trace.ops[0].work = 6;  // 3 s on 2 cores
  const Bound bound = BoundOf(plan, SimpleHardware());
  // 3 copies and 3 reads of 8192 bytes, writes of 8192, 4096 and 8192: 8.5 core seconds.
  EXPECT_DOUBLE_EQ(bound.seconds_by_resource.at("cores"), (6 + 8.5) / 4);
  EXPECT_EQ(bound.resource, "cores");
  EXPECT_DOUBLE_EQ(bound.seconds, bound.seconds_by_resource.at("cores"));
  EXPECT_EQ(bound.seconds_by_resource.size(), 2u);
}

TEST(BoundOfTest, ADeviceOfItsOwnHasAResourcePerLane) {
  StepPlan plan = HandPlan();
  plan.trace.ops[0].work = 6;
  Hardware hardware = SimpleHardware();
  hardware.device_shares_cores = false;
  const Bound bound = BoundOf(plan, hardware);
  EXPECT_DOUBLE_EQ(bound.seconds_by_resource.at("compute"), 3);
  EXPECT_DOUBLE_EQ(bound.seconds_by_resource.at("h2d"), 2);
  EXPECT_DOUBLE_EQ(bound.seconds_by_resource.at("d2h"), 1);
  EXPECT_EQ(bound.resource, "compute");
  EXPECT_FALSE(bound.seconds_by_resource.contains("cores"));
}

TEST(BoundOfTest, ReadsAloneGoByTheReadRate) {
  EXPECT_DOUBLE_EQ(BoundOf(ReadsOnly(4), SimpleHardware()).seconds_by_resource.at("nvme"), 2);
}

// `reads` reads and `writes` writes of 8192 bytes.
StepPlan ReadsAndWrites(uint32_t reads, uint32_t writes) {
  StepPlan plan = ReadsOnly(reads + writes);
  for (uint32_t i = reads; i < reads + writes; ++i) {
    plan.nodes[i].kind = NodeKind::kWrite;
    plan.nodes[i].lane = Lane::kNvmeWrite;
    std::swap(plan.nodes[i].from, plan.nodes[i].to);
  }
  return plan;
}

TEST(BoundOfTest, AsManyReadsAsWritesGoByTheMixedRate) {
  EXPECT_DOUBLE_EQ(BoundOf(ReadsAndWrites(3, 3), SimpleHardware()).seconds_by_resource.at("nvme"),
                   2);
}

TEST(BoundOfTest, WhatHasNoPartnerToMixWithGoesByItsOwnRate) {
  EXPECT_DOUBLE_EQ(BoundOf(ReadsAndWrites(5, 3), SimpleHardware()).seconds_by_resource.at("nvme"),
                   3);
}

TEST(BoundOfTest, ADriveThatIsSlowerMixedIsBestUsedInTurns) {
  Hardware hardware = SimpleHardware();
  hardware.nvme_mixed_bytes_per_s = 2 * 8192;  // 3 + 3 would take 3 s together, 1.5 + 0.75 in turns
  EXPECT_DOUBLE_EQ(BoundOf(ReadsAndWrites(3, 3), hardware).seconds_by_resource.at("nvme"), 2.25);
}

TEST(BoundOfTest, TheSimulatorIsNeverFasterThanTheBound) {
  for (double mixed : {1.0, 2.0, 3.0, 6.0}) {
    for (auto [reads, writes] : {std::pair(3, 3), std::pair(7, 1), std::pair(1, 7)}) {
      Hardware hardware = SimpleHardware();
      hardware.nvme_mixed_bytes_per_s = mixed * 8192;
      const StepPlan plan = ReadsAndWrites(reads, writes);
      EXPECT_GE(Simulate(plan, hardware).step_s, BoundOf(plan, hardware).seconds * (1 - 1e-12))
          << mixed << " " << reads << " " << writes;
    }
  }
}

// All steps of one plan.
nlohmann::json TraceOf(const StepPlan& plan,
                       const std::map<std::string, std::vector<Timeline>>& processes) {
  std::vector<TracedSteps> traced;
  for (const auto& [name, timelines] : processes) {
    traced.push_back({.name = name, .steps = {}});
    for (const Timeline& timeline : timelines) traced.back().steps.push_back({&plan, timeline});
  }
  return nlohmann::json::parse(ChromeTrace(traced));
}

TEST(ChromeTraceTest, IsJsonWithAProcessPerEntryAndATrackPerLane) {
  const StepPlan plan = HandPlan();
  const Timeline timeline = Simulate(plan, Hardware{});
  const auto json =
      TraceOf(plan, {{"measured", {timeline, timeline}}, {"simulated \"fast\"", {timeline}}});
  std::map<std::string, int> counts;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") == "M") ++counts[event.at("name").get<std::string>()];
    if (event.at("ph") == "X" && event.at("cat") != "stall")
      ++counts["X" + std::to_string(event.at("pid").get<int>())];
  }
  EXPECT_EQ(counts["process_name"], 2);
  EXPECT_EQ(counts["thread_name"], 2 * static_cast<int>(kNumLanes));
  EXPECT_EQ(counts["X1"], 2 * static_cast<int>(plan.nodes.size()));
  EXPECT_EQ(counts["X2"], static_cast<int>(plan.nodes.size()));
}

TEST(ChromeTraceTest, AnEventNamesItsNodeItsBytesAndWhatItWaitedFor) {
  const StepPlan plan = HandPlan();
  const Timeline timeline = Simulate(plan, Hardware{});
  const auto json = TraceOf(plan, {{"measured", {timeline}}});
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("name") != "copy in v") continue;
    EXPECT_EQ(event.at("args").at("node"), 9);
    EXPECT_EQ(event.at("args").at("bytes"), 8192);
    EXPECT_EQ(event.at("args").at("waited_for"), "read v");
    EXPECT_DOUBLE_EQ(event.at("ts").get<double>(), timeline.spans[9].start_s * 1e6);
    return;
  }
  FAIL() << "no event for node 9";
}

TEST(ChromeTraceTest, TheEventsOfALaneDoNotOverlapAndAddUpToItsBusyTime) {
  const StepPlan plan = ReadsOnly(4);
  const Timeline timeline = MakeTimeline({{1, 3}, {1.5, 2}, {2, 5}, {6, 7}}, 8);
  const auto json = TraceOf(plan, {{"measured", {timeline}}});
  double sum_us = 0;
  double stalled_us = 0;
  double last_end_us = 0;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const double dur_us = event.at("dur").get<double>();
    const double ts_us = event.at("ts").get<double>();
    EXPECT_TRUE(dur_us == 0 || ts_us >= last_end_us);
    last_end_us = std::max(last_end_us, ts_us + dur_us);
    (event.at("cat") == "stall" ? stalled_us : sum_us) += dur_us;
  }
  EXPECT_NEAR(sum_us, UseOf(plan, timeline)[kRead].busy_s * 1e6, 1e-6);
  EXPECT_NEAR(stalled_us, 2e6, 1e-6);  // before the first, and from 5 to 6
  EXPECT_EQ(UseOf(plan, timeline)[kWrite].busy_s, 0);
}

TEST(ChromeTraceTest, AGapIsAnEventNamedByItsReason) {
  const StepPlan plan = HandPlan();
  const Timeline timeline = Simulate(plan, Hardware{});
  const auto uses = UseOf(plan, timeline);
  const auto json = TraceOf(plan, {{"simulated", {timeline}}});
  std::array<std::map<std::string, double>, kNumLanes> stalled_s;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") != "X" || event.at("cat") != "stall") continue;
    std::string name = event.at("name");
    ASSERT_TRUE(name.starts_with("waits: ")) << name;
    stalled_s[event.at("tid").get<size_t>() - 1][name.substr(7)] +=
        event.at("dur").get<double>() / 1e6;
  }
  for (size_t lane = 0; lane < kNumLanes; ++lane) {
    ASSERT_EQ(stalled_s[lane].size(), uses[lane].stalled_s.size());
    for (const auto& [reason, seconds] : uses[lane].stalled_s)
      EXPECT_NEAR(stalled_s[lane][reason], seconds, 1e-12) << reason;
  }
}

// Steps of several kinds, each with a plan of its own, stand one after the other.
TEST(ChromeTraceTest, EachStepIsShownByItsOwnPlan) {
  const StepPlan one_read = ReadsOnly(1), two_reads = ReadsOnly(2);
  const std::vector<TracedStep> steps = {{&one_read, MakeTimeline({{0, 1}}, 1)},
                                         {&two_reads, MakeTimeline({{0, 1}, {1, 3}}, 3)}};
  const auto json = nlohmann::json::parse(ChromeTrace({{"measured", steps}}));
  std::vector<std::pair<std::string, double>> events;
  for (const auto& event : json.at("traceEvents"))
    if (event.at("ph") == "X") events.emplace_back(event.at("name"), event.at("ts").get<double>());
  ASSERT_EQ(events.size(), 3);
  EXPECT_EQ(events[0], std::pair(NodeName(one_read, 0), 0.0));
  EXPECT_EQ(events[1], std::pair(NodeName(two_reads, 0), 1e6));
  EXPECT_EQ(events[2], std::pair(NodeName(two_reads, 1), 2e6));
}

// Predicted and measured of one step lie below each other, although one is longer.
TEST(ChromeTraceTest, TheSameStepStartsAtTheSameTimeInEveryProcess) {
  const StepPlan plan = ReadsOnly(1);
  const Timeline fast = MakeTimeline({{0, 1}}, 1), slow = MakeTimeline({{0, 2}}, 2);
  const auto json =
      TraceOf(plan, {{"measured", {slow, fast, slow}}, {"simulated", {fast, fast, fast}}});
  std::map<int, std::vector<double>> starts_s;
  for (const auto& event : json.at("traceEvents"))
    if (event.at("ph") == "X")
      starts_s[event.at("pid")].push_back(event.at("ts").get<double>() / 1e6);
  EXPECT_EQ(starts_s[1], (std::vector<double>{0, 2, 3}));
  EXPECT_EQ(starts_s[2], starts_s[1]);
}

}  // namespace
}  // namespace strata::prefetch
