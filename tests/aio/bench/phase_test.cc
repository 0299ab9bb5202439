#include "aio/bench/phase.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "aio/bench/disk_meter.h"
#include "tests/aio/mounts.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using testing::ElementsAre;

class PhaseTest : public testing::Test {
 protected:
  Result<PhaseResult> Run(BenchTarget& target, const PhaseOptions& options) {
    AioSetting setting = {
        .backend = IoBackend::kPosix, .block_size_bytes = 64_KiB, .queue_depth = 4};
    DiskMeter meter = OrDie(DiskMeter::Create(target, WorkloadMemoryBytes(setting)));
    auto engine = OrDie(IoEngine::Create(EngineOptionsOf(setting, meter.memory())));
    return RunPhase(target, *engine, setting, meter.memory(), options);
  }
  std::unique_ptr<BenchTarget> Target(const std::string& path) {
    return OrDie(BenchTarget::Create({.paths = {path}, .size_bytes = 8_MiB}));
  }
  static constexpr Seconds kShort{0.15};

  ScratchDirectory scratch_;
};

TEST_F(PhaseTest, AddsUpItsRuns) {
  auto target = Target(scratch_.path());
  PhaseResult result = OrDie(Run(*target, {.mix = {1, 1}, .duration = kShort, .runs = 3}));
  ASSERT_EQ(result.runs.size(), 3u);
  EXPECT_EQ(result.bytes(),
            result.runs[0].bytes() + result.runs[1].bytes() + result.runs[2].bytes());
  EXPECT_EQ(result.latency(IoDirection::kRead).count(), result.runs[0].read_latency.count() +
                                                            result.runs[1].read_latency.count() +
                                                            result.runs[2].read_latency.count());
  EXPECT_LE(result.spread().min, result.bytes_per_s());
  EXPECT_GE(result.spread().max, result.bytes_per_s());
}

TEST_F(PhaseTest, TellsWhichRunItIsIn) {
  auto target = Target(scratch_.path());
  std::set<uint32_t> runs;
  auto progress = [&](const PhaseProgress& now) { runs.insert(now.run); };
  OrDie(Run(*target, {.duration = kShort, .runs = 2, .progress = progress}));
  EXPECT_THAT(runs, ElementsAre(1, 2));
}

TEST_F(PhaseTest, ChecksWhatWasWrittenWhenAsked) {
  auto target = Target(scratch_.path());
  EXPECT_FALSE(OrDie(Run(*target, {.mix = {0, 1}, .duration = kShort})).verified);
  PhaseResult result =
      OrDie(Run(*target, {.mix = {0, 1}, .duration = kShort, .check = DataCheck::kOn}));
  EXPECT_TRUE(result.verified);
  EXPECT_GT(result.check_cpu_s(), 0);
  EXPECT_LE(result.check_cpu_s(), result.cpu_s());
}

TEST_F(PhaseTest, AStopKeepsTheRunsThatWere) {
  auto target = Target(scratch_.path());
  uint32_t run = 0;
  PhaseOptions options = {
      .duration = 3 * kShort,
      .runs = 3,
      .progress = [&](const PhaseProgress& now) { run = now.run; },
      .stop = [&] { return run == 2; },
  };
  PhaseResult result = OrDie(Run(*target, options));
  EXPECT_TRUE(result.stopped);
  EXPECT_GE(result.runs.size(), 1u);
  EXPECT_LE(result.runs.size(), 2u);
}

// Nobody else uses this drive, so that its own counters must agree with ours.
TEST_F(PhaseTest, TheDriveCountsWhatWeCount) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(scratch_.File("m"), 64_MiB, "-O ^has_journal"));
  auto target = Target(mount->at());
  for (Mix mix : {Mix{1, 0}, Mix{0, 1}, Mix{1, 1}}) {
    PhaseResult result = OrDie(Run(*target, {.mix = mix, .duration = kShort}));
    ASSERT_EQ(result.drives.size(), 1u);
    EXPECT_THAT(result.drives[0].name, testing::StartsWith("loop"));
    for (IoDirection direction : {IoDirection::kRead, IoDirection::kWrite}) {
      uint32_t share = direction == IoDirection::kRead ? mix.reads : mix.writes;
      std::optional<double> ratio = result.drives_over_ours(direction);
      EXPECT_EQ(ratio.has_value(), share > 0);
      EXPECT_NEAR(ratio.value_or(1), 1, 0.02) << DescribeMix(mix);
    }
  }
}

TEST_F(PhaseTest, MemoryHasNoDriveThatCounts) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(scratch_.File("m"), "32m"));
  auto target = Target(mount->at());
  PhaseResult result = OrDie(Run(*target, {.duration = kShort, .runs = 1}));
  EXPECT_FALSE(result.drives_over_ours(IoDirection::kRead));
}

}  // namespace
}  // namespace strata::aio
