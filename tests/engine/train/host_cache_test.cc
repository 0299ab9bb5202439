// What stays in host memory across steps, and what that saves: counted in bytes that went to and
// from nvme in real steps.
#include "engine/train/host_cache.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;
using tiering::Tier;

const std::string kCacheKey = "zero_optimization.offload_optimizer.host_cache=";

// Plans for a slow drive avoid every byte that can be avoided.
constexpr double kSlowDriveBytesPerS = 1e8;
prefetch::Hardware SlowDrive() {
  prefetch::Hardware hardware;
  hardware.nvme_read_bytes_per_s = hardware.nvme_write_bytes_per_s =
      hardware.nvme_mixed_bytes_per_s = kSlowDriveBytesPerS;
  return hardware;
}

// A model whose state is some times what it trains in, and no checkpoint before the last step.
std::vector<std::string> Sets(const std::string& directory) {
  std::vector<std::string> sets = OffloadTo("nvme", directory);
  sets.insert(sets.end(),
              {"model.hidden_size=128", "model.intermediate_size=320", "model.num_hidden_layers=6",
               "train.gradient_clipping=0", "train.steps=3", "checkpoint.keep_last=0"});
  for (const char* direction : {"read", "write", "mixed"})
    sets.push_back(fmt::format("hardware.nvme_{}_bytes_per_s={}", direction, kSlowDriveBytesPerS));
  return sets;
}

// Close to the smallest budgets that this model trains in: a MiB more of host memory, a fifteenth
// of the state, so that what streams does not get in its own way.
prefetch::Budgets Least() {
  ScratchDirectory scratch;
  PlannedRun run = OrDie(PrepareRun(OrDie(TinyConfig(scratch.path(), Sets(scratch.path())))));
  prefetch::Budgets least = OrDie(prefetch::SmallestBudgets(run.program.trace, {}));
  least.host_bytes += 1_MiB;
  return least;
}

RunConfig ConfigWith(const std::string& directory, uint64_t more_host_bytes,
                     const std::string& host_cache) {
  static const prefetch::Budgets least = Least();
  std::vector<std::string> sets = Sets(directory);
  sets.push_back(fmt::format("memory.device=\"{}B\"", least.device_bytes));
  sets.push_back(fmt::format("memory.host=\"{}B\"", least.host_bytes + more_host_bytes));
  sets.push_back(kCacheKey + host_cache);
  return OrDie(TinyConfig(directory, sets));
}

RunOutcome TrainWithCache(uint64_t more_host_bytes, const std::string& host_cache) {
  ScratchDirectory scratch;
  return OrDie(Train(ConfigWith(scratch.path(), more_host_bytes, host_cache)));
}

uint64_t StateBytes() {
  ScratchDirectory scratch;
  return OrDie(PrepareRun(ConfigWith(scratch.path(), 0, "0"))).layout.size_bytes();
}

// Of the second step: neither the first state nor a checkpoint is in it.
double BytesOfAStep(const RunOutcome& outcome) {
  return static_cast<double>(outcome.nvme_bytes_read[1] + outcome.nvme_bytes_written[1]);
}

TEST(HostCache, SavesItsFractionOfTheStateTrafficAndNoBitChanges) {
  const double state_bytes = static_cast<double>(StateBytes());
  RunOutcome without = TrainWithCache(0, "0");
  for (double fraction : {0.25, 0.5, 0.75}) {
    auto bytes = static_cast<uint64_t>(fraction * state_bytes);
    ScratchDirectory scratch;
    RunConfig config = ConfigWith(scratch.path(), bytes, fmt::format("{}B", bytes));
    // Whole units have their place there, so it is a little less than what was asked for.
    double cached =
        static_cast<double>(OrDie(PlanRun(config, SlowDrive())).host_cache_bytes) / state_bytes;
    EXPECT_GT(cached, fraction - 0.1);
    RunOutcome with = OrDie(Train(config));
    double saved = 1 - BytesOfAStep(with) / BytesOfAStep(without);
    EXPECT_GE(saved, 0.9 * cached) << "cached " << cached;
    RecordProperty(fmt::format("saved_at_{:.3f}", cached), fmt::format("{:.3f}", saved));
    EXPECT_EQ(with.summary.state_hash, without.summary.state_hash);
    EXPECT_THAT(with.losses, testing::ElementsAreArray(without.losses));
  }
}

TEST(HostCache, OfAllStateLeavesNoStateTraffic) {
  RunOutcome all = TrainWithCache(StateBytes() + 1_MiB, fmt::format("{}B", StateBytes() + 1_MiB));
  EXPECT_EQ(all.nvme_bytes_read[1], 0u);
  EXPECT_EQ(all.nvme_bytes_written[1], 0u);
}

// Without a host cache what lies in memory is clean: the same bytes save reads only. What the step
// before touched last is what the next finds.
TEST(HostCache, MemoryWithoutItSavesItsFractionOfTheReads) {
  RunOutcome tight = TrainWithCache(0, "0");
  for (double fraction : {0.25, 0.5, 0.75}) {
    auto bytes = static_cast<uint64_t>(fraction * static_cast<double>(StateBytes()));
    RunOutcome roomy = TrainWithCache(bytes, "0");
    double read = static_cast<double>(roomy.nvme_bytes_read[1]);
    double read_tight = static_cast<double>(tight.nvme_bytes_read[1]);
    EXPECT_LE(read, (1 - 0.9 * fraction) * read_tight);
    RecordProperty(fmt::format("reads_saved_at_{:.3f}", fraction),
                   fmt::format("{:.3f}", 1 - read / read_tight));
    EXPECT_GE(roomy.nvme_bytes_written[1], StateBytes());
    EXPECT_EQ(roomy.summary.state_hash, tight.summary.state_hash);
  }
}

TEST(HostCache, TakesTheUnitsThatTheForwardPassNeedsFirst) {
  ScratchDirectory scratch;
  uint64_t half = StateBytes() / 2;
  PlannedRun run =
      OrDie(PlanRun(ConfigWith(scratch.path(), half, fmt::format("{}B", half)), SlowDrive()));
  auto home_of_unit = [&](uint32_t unit) {
    std::vector<Tier> homes;
    for (const StateBlock& block : run.layout.blocks)
      if (block.unit == unit) homes.push_back(block.home);
    EXPECT_THAT(homes, testing::Each(homes.front())) << "unit " << unit << " is cut apart";
    return homes.front();
  };
  EXPECT_EQ(home_of_unit(0), Tier::kHost);
  EXPECT_EQ(home_of_unit(1), Tier::kHost);
  EXPECT_EQ(home_of_unit(static_cast<uint32_t>(run.layout.units.size()) - 2), Tier::kNvme);
  EXPECT_FALSE(run.commits_every_step);
}

TEST(HostCache, OfAnotherSizeOnResumeGoesOnWithTheSameBits) {
  RunOutcome expected = TrainWithCache(0, "0");
  ScratchDirectory scratch;
  uint64_t room = StateBytes() / 2;
  constexpr auto kResume = SessionOptions::Start::kResume;
  OrDie(TrainAndStopAfter(ConfigWith(scratch.path(), room, "3MiB"), 1));
  OrDie(TrainAndStopAfter(ConfigWith(scratch.path(), room, "0"), 1, kResume));
  RunOutcome last = OrDie(Train(ConfigWith(scratch.path(), room, "5MiB"), kResume));
  EXPECT_EQ(last.first_step, 2u);
  EXPECT_EQ(last.summary.state_hash, expected.summary.state_hash);
}

TEST(HostCache, ThatLeavesTooLittleForTheStepIsRefusedWithAWayOut) {
  ScratchDirectory scratch;
  Result<PlannedRun> run = PlanRun(ConfigWith(scratch.path(), 2_MiB, "1GiB"), SlowDrive());
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(run.status().message(), HasSubstr("or a smaller host_cache"));
}

// Simulated on a machine with this drive and cores that take no time.
PlannedRun PlanAuto(const std::string& directory, double nvme_bytes_per_s, double compute_per_s) {
  prefetch::Hardware hardware;
  hardware.nvme_read_bytes_per_s = hardware.nvme_write_bytes_per_s =
      hardware.nvme_mixed_bytes_per_s = nvme_bytes_per_s;
  hardware.compute_default_per_s = compute_per_s;
  return OrDie(PlanRun(ConfigWith(directory, StateBytes() / 2, "auto"), hardware));
}

TEST(HostCache, AutoTakesOneWhereTheDriveIsWhatAStepWaitsFor) {
  ScratchDirectory scratch;
  PlannedRun run = PlanAuto(scratch.path(), 1e8, 1e14);
  EXPECT_GT(run.host_cache_bytes, 0u);
  PlannedRun without =
      OrDie(PlanRun(ConfigWith(scratch.path(), StateBytes() / 2, "0"), run.hardware));
  EXPECT_LT(run.predicted.step_s, 0.9 * without.predicted.step_s);
}

TEST(HostCache, AutoTakesNoneWhereAStepWaitsForTheCores) {
  ScratchDirectory scratch;
  PlannedRun run = PlanAuto(scratch.path(), 1e11, 1e9);
  EXPECT_EQ(run.host_cache_bytes, 0u);
  EXPECT_TRUE(run.commits_every_step);
}

}  // namespace
}  // namespace strata::engine
