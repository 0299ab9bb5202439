// A run goes on with other ranks, at another stage, on other tiers and drives: with the state that
// it had, to the last bit, whatever happens on the way.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "aio/file.h"
#include "engine/train/export_run.h"
#include "engine/train/run_stores.h"
#include "tests/engine/train/rank_jobs.h"
#include "tests/fakes/fault_engine.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kNew = SessionOptions::Start::kNew;
constexpr auto kResume = SessionOptions::Start::kResume;

RunStores StoresIn(const std::string& directory) {
  return OrDie(ParseRunStores(OrDie(aio::ReadSmallFile(directory + "/run/stores.json", 1 << 20))));
}

// The files of blocks that lie about, with the folders they are in: "name/rank-0.blocks".
std::set<std::string> BlockFilesIn(const std::string& directory) {
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const fs::path& path = entry.path();
    if (path.filename().string().ends_with(".blocks"))
      found.insert(path.parent_path().filename() / path.filename());
  }
  return found;
}

// Those of the run's stores and no others.
void ExpectOnlyTheRunsBlocks(const std::string& directory) {
  const RunStores stores = StoresIn(directory);
  EXPECT_THAT(stores.leftovers, IsEmpty());
  const std::string run_id = OrDie(aio::ReadSmallFile(directory + "/run/run_id", 4096));
  std::set<std::string> expected;
  for (uint64_t rank = 0; rank < stores.current.world_size; ++rank)
    expected.insert(
        fmt::format("strata-{}/rank-{}.blocks", StoreIdOf(run_id, stores.current), rank));
  EXPECT_EQ(BlockFilesIn(directory), expected);
}

// Twelve sequences a step, which 1, 2, 3, 4 and 6 ranks can share.
Job OfTwelve(uint32_t world, int stage, const std::string& weights, const std::string& optimizer,
             std::vector<std::string> more) {
  Job job{world, stage, weights, optimizer, /*steps=*/2, std::move(more)};
  job.more.insert(job.more.end(),
                  {"train.train_batch_size=12",
                   fmt::format("train.gradient_accumulation_steps={}", 12 / world)});
  return job;
}

struct Format {
  std::string name;
  std::vector<std::string> sets;
};

class ReshardTest : public testing::TestWithParam<Format> {};

// Shards of 3 and of 4 ranks have no ends in common, and few units are a multiple of them.
TEST_P(ReshardTest, NoElementChangesOnAnyWay) {
  const std::vector<std::string>& sets = GetParam().sets;
  const Job first = OfTwelve(4, 3, "nvme", "nvme", sets);
  ScratchDirectory scratch;
  const RunOutcome expected = Outcome(first, scratch.path(), kNew);
  ASSERT_NE(expected.summary.state_hash, 0u);
  const bool has_stages = GetParam().name != "fp32_weights";
  const std::vector<Job> trip = {
      OfTwelve(2, has_stages ? 1 : 3, has_stages ? "device" : "nvme", "host", sets),
      OfTwelve(1, 0, "device", "device", sets),
      OfTwelve(3, has_stages ? 2 : 3, "device", "nvme", sets),
      OfTwelve(4, 0, "device", "device", sets),
      OfTwelve(3, 3, "host", "nvme", sets),
      OfTwelve(3, 0, "device", "device", sets),
      first};
  for (const Job& job : trip) {
    SCOPED_TRACE(Describe(job));
    const RunOutcome there = Outcome(job, scratch.path(), kResume);
    EXPECT_EQ(there.first_step, 2u);
    EXPECT_THAT(there.losses, IsEmpty());
    EXPECT_EQ(there.summary.weights_hash, expected.summary.weights_hash);
    EXPECT_EQ(there.summary.state_hash, expected.summary.state_hash);
    ExpectOnlyTheRunsBlocks(scratch.path());
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, ReshardTest,
                         testing::Values(Format{"split", {"model.part_size=16KiB"}},
                                         Format{"int8",
                                                {"optimizer.state=int8", "model.part_size=16KiB"}},
                                         Format{"fp32", {"optimizer.state=fp32"}},
                                         Format{"fp16", {"train.precision=fp16"}},
                                         Format{"fp32_weights", {"train.precision=fp32"}}),
                         [](const auto& test) { return test.param.name; });

// Going elsewhere and back shows in nothing that is computed.
TEST(Reshard, ThereAndBackContinuesWithTheBitsOfTheUndisturbedRun) {
  const Job job{.world = 4, .steps = 4};
  const RunOutcome expected = Outcome(job);
  ScratchDirectory scratch;
  const RunOutcome begin = Outcome(job, scratch.path(), kNew, 2);
  for (const auto& [world, stage] : {std::pair(4u, 3), std::pair(2u, 1), std::pair(1u, 0)}) {
    const Job other{world, stage, stage == 3 ? "nvme" : "device", "device", 4};
    EXPECT_EQ(Outcome(other, scratch.path(), kResume, 0).first_step, 2u);
  }
  const RunOutcome rest = Outcome(job, scratch.path(), kResume);
  EXPECT_THAT(begin.losses, ElementsAre(expected.losses[0], expected.losses[1]));
  EXPECT_THAT(rest.losses, ElementsAre(expected.losses[2], expected.losses[3]));
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
}

// Other ranks sum gradients in another order: see LossesOfAllWorldsAgree for the tolerance. That
// they see the same sequences shows in losses that would differ far more.
TEST(Reshard, TrainingGoesOnWithWhateverRanksThereAre) {
  constexpr int kSteps = 16;
  const RunOutcome expected = Outcome({.world = 4, .steps = kSteps});
  ScratchDirectory scratch;
  std::vector<double> losses;
  const std::vector<Job> jobs = {{4, 3, "nvme", "nvme", kSteps},
                                 {2, 2, "device", "host", kSteps},
                                 {1, 0, "device", "device", kSteps},
                                 {4, 1, "device", "nvme", kSteps}};
  for (const Job& job : jobs) {
    const RunOutcome part =
        Outcome(job, scratch.path(), losses.empty() ? kNew : kResume, kSteps / jobs.size());
    EXPECT_EQ(part.first_step, losses.size());
    losses.insert(losses.end(), part.losses.begin(), part.losses.end());
  }
  ASSERT_EQ(losses.size(), expected.losses.size());
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(losses[i], expected.losses[i], 0.01) << "step " << i + 1;
}

// What is not in the blocks: how often the loss scale was halved, the steps that were skipped.
TEST(Reshard, TheLossScaleAndTheUpdatesGoAlong) {
  const std::vector<std::string> sets = {"train.precision=fp16", "fp16.initial_scale_power=24"};
  const Job job{4, 3, "nvme", "nvme", 6, sets};
  const RunOutcome expected = Outcome(job);
  ASSERT_GT(expected.summary.counts.skipped, 0u);
  ScratchDirectory scratch;
  const RunOutcome begin = Outcome(job, scratch.path(), kNew, 4);
  const RunOutcome rest = Outcome({1, 0, "device", "device", 6, sets}, scratch.path(), kResume);
  EXPECT_THAT(rest.loss_scales, ElementsAre(expected.loss_scales[4], expected.loss_scales[5]));
  EXPECT_THAT(rest.learning_rates,
              ElementsAre(expected.learning_rates[4], expected.learning_rates[5]));
}

std::string ExportOf(const std::string& directory) {
  ScratchDirectory to;
  ExportRunOptions options;
  options.run_dir = directory + "/run";
  options.to = to.path() + "/exported";
  options.dtype = DType::kF32;
  OrDie(ExportRun(options));
  return OrDie(aio::ReadSmallFile(options.to + "/model.safetensors", 1 << 30));
}

TEST(Reshard, TheExportOfFourRanksIsThatOfOne) {
  ScratchDirectory scratch;
  Outcome({.world = 4}, scratch.path(), kNew);
  const std::string of_four = ExportOf(scratch.path());
  Outcome({.world = 1}, scratch.path(), kResume);
  EXPECT_TRUE(ExportOf(scratch.path()) == of_four);
}

// Another nvme_path is another place for the state, not another run.
TEST(Reshard, TheStateComesAlongToOtherDrives) {
  Job job{.world = 2, .steps = 4};
  const RunOutcome expected = Outcome(job);
  ScratchDirectory scratch;
  Outcome(job, scratch.path(), kNew, 2);
  fs::create_directories(scratch.path() + "/nvme2");
  for (const char* offload : {"offload_param", "offload_optimizer"})
    job.more.push_back(
        fmt::format("zero_optimization.{}.nvme_path={}/nvme2", offload, scratch.path()));
  const RunOutcome rest = Outcome(job, scratch.path(), kResume);
  EXPECT_EQ(rest.first_step, 2u);
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
  EXPECT_THAT(BlockFilesIn(scratch.path() + "/nvme"), IsEmpty());
  ExpectOnlyTheRunsBlocks(scratch.path());
}

// Whatever is inside a run's directory goes where that goes.
TEST(Reshard, ARunThatWasRenamedIsWhereItIs) {
  Job job{.world = 2, .weights = "device", .optimizer = "host", .steps = 4};
  const RunOutcome expected = Outcome(job);
  ScratchDirectory scratch;
  Outcome(job, scratch.path(), kNew, 2);
  fs::rename(scratch.path() + "/run", scratch.path() + "/renamed");
  job.more = {fmt::format("train.run_dir={}/renamed", scratch.path())};
  const RunOutcome rest = Outcome(job, scratch.path(), kResume);
  EXPECT_EQ(rest.first_step, 2u);
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
  EXPECT_FALSE(fs::exists(scratch.path() + "/run"));
}

std::set<std::string> CheckpointsIn(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory + "/run/checkpoints"))
    names.insert(entry.path().filename());
  return names;
}

// Checkpoints of other ranks are not kept, and nothing says that they were.
TEST(Reshard, OlderCheckpointsEndWithTheirStores) {
  const std::vector<std::string> sets = {"checkpoint.every_steps=1", "checkpoint.keep_last=2"};
  ScratchDirectory scratch;
  Outcome({2, 3, "nvme", "nvme", 6, sets}, scratch.path(), kNew, 3);
  EXPECT_THAT(CheckpointsIn(scratch.path()), ElementsAre("step-000002", "step-000003"));
  Outcome({1, 3, "nvme", "nvme", 6, sets}, scratch.path(), kResume, 0);
  EXPECT_THAT(CheckpointsIn(scratch.path()), IsEmpty());
  Outcome({1, 3, "nvme", "nvme", 6, sets}, scratch.path(), kResume, 1);
  EXPECT_THAT(CheckpointsIn(scratch.path()), ElementsAre("step-000004"));
}

TEST(Reshard, OverwritingARunThatMovedLeavesNothingOfIt) {
  ScratchDirectory scratch;
  Outcome({.world = 4}, scratch.path(), kNew);
  Outcome({.world = 2}, scratch.path(), kResume);
  Outcome({.world = 1}, scratch.path(), SessionOptions::Start::kOverwrite);
  ExpectOnlyTheRunsBlocks(scratch.path());
  EXPECT_EQ(StoresIn(scratch.path()).current.world_size, 1u);
}

// A drive whose size can be changed.
class ElasticDrive {
 public:
  explicit ElasticDrive(std::string path) : path_(std::move(path)) {
    is_mounted_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=64m") == 0;
  }
  ElasticDrive(const ElasticDrive&) = delete;
  ElasticDrive& operator=(const ElasticDrive&) = delete;
  ~ElasticDrive() {
    if (is_mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool ok() const { return is_mounted_; }
  bool Resize(uint64_t bytes) {
    return mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT,
                 fmt::format("size={}", bytes).c_str()) == 0;
  }
  uint64_t UsedBytes() const {
    const fs::space_info space = fs::space(path_);
    return space.capacity - space.free;
  }

 private:
  std::string path_;
  bool is_mounted_ = false;
};

TEST(Reshard, SpaceForBothIsLookedForFirst) {
  ScratchDirectory scratch;
  fs::create_directories(scratch.path() + "/nvme");
  ElasticDrive drive(scratch.path() + "/nvme");
  if (!drive.ok()) GTEST_SKIP() << "mounting a small tmpfs is not allowed here";
  const Job four{.world = 4};
  const Job one{.world = 1};
  const RunOutcome expected = Outcome(four, scratch.path(), kNew);
  ASSERT_TRUE(drive.Resize(drive.UsedBytes() + (1 << 20)));
  const Status status =
      TrainRanks(MachinesOf({1}), ConfigOf(scratch.path(), one), kResume)[0].status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("are missing"), HasSubstr("the old state stays"),
                    HasSubstr("from 4 ranks at stage 3 to 1 rank"), HasSubstr(scratch.path())));
  ExpectOnlyTheRunsBlocks(scratch.path());
  EXPECT_EQ(Outcome(four, scratch.path(), kResume).summary.state_hash, expected.summary.state_hash);
  ASSERT_TRUE(drive.Resize(64 << 20));
  EXPECT_EQ(Outcome(one, scratch.path(), kResume).summary.state_hash, expected.summary.state_hash);
}

// What may go wrong. Four ranks have trained two of four steps; two are to go on.
class FailingReshard : public testing::Test {
 protected:
  FailingReshard() : before_(Outcome(from_, scratch_.path(), kNew, 2)) {}

  // Of all ranks of the two.
  void ExpectFailure(const Job& job, Code code, const testing::Matcher<std::string>& message) {
    for (const Result<RunOutcome>& outcome :
         TrainRanks(MachinesOf({job.world}), ConfigOf(scratch_.path(), job), kResume)) {
      ASSERT_FALSE(outcome.ok());
      EXPECT_EQ(outcome.status().code(), code) << outcome.status().message();
      EXPECT_THAT(std::string(outcome.status().message()), message);
    }
  }
  // As if nothing had been tried.
  void ExpectFourGoOnAsBefore() {
    ExpectOnlyTheRunsBlocks(scratch_.path());
    const RunOutcome rest = Outcome(from_, scratch_.path(), kResume);
    EXPECT_EQ(rest.first_step, 2u);
    EXPECT_EQ(rest.summary.state_hash, Outcome(from_).summary.state_hash);
  }
  std::vector<fs::path> FilesOfRank(uint32_t rank, const std::string& suffix) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path() + "/nvme")) {
      if (entry.path().filename().string().starts_with(fmt::format("rank-{}{}", rank, suffix)))
        found.push_back(entry.path());
    }
    return found;
  }

  const Job from_{.world = 4, .steps = 4};
  const Job to_{.world = 2, .stage = 1, .weights = "device", .steps = 4};
  ScratchDirectory scratch_;
  RunOutcome before_;
};

TEST_F(FailingReshard, ARankWhoseFilesAreNotThereIsNamed) {
  const std::vector<fs::path> files = FilesOfRank(3, ".");
  ASSERT_GE(files.size(), 2u);
  const fs::path elsewhere = scratch_.path() + "/elsewhere";
  fs::create_directories(elsewhere);
  for (const fs::path& file : files) fs::rename(file, elsewhere / file.filename());
  ExpectFailure(to_, Code::kFailedPrecondition,
                AllOf(HasSubstr("rank 3 of 4"), HasSubstr("rank-3.manifest-"), HasSubstr("mounted"),
                      HasSubstr("--overwrite")));
  for (const fs::path& file : files) fs::rename(elsewhere / file.filename(), file);
  ExpectFourGoOnAsBefore();
}

TEST_F(FailingReshard, WhatMayNotChangeIsRefusedBeforeAnythingIsTouched) {
  Job other = to_;
  other.more = {"train.train_batch_size=4", "train.gradient_accumulation_steps=2"};
  ExpectFailure(other, Code::kFailedPrecondition, HasSubstr("train_batch_size"));
  other.more = {"optimizer.state=int8"};
  ExpectFailure(other, Code::kFailedPrecondition, HasSubstr("[optimizer] state"));
  ExpectFourGoOnAsBefore();
}

TEST_F(FailingReshard, ABlockOfTheOldStateThatIsDamagedIsNotCarriedAlong) {
  for (const fs::path& path : FilesOfRank(2, ".blocks")) {
    const auto size = fs::file_size(path);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const std::string zeros(size / 2, 0);
    file.write(zeros.data(), static_cast<std::streamsize>(zeros.size()));
  }
  ExpectFailure(to_, Code::kDataLoss, AllOf(HasSubstr("checksum"), HasSubstr("rank-2.blocks")));
  EXPECT_THAT(StoresIn(scratch_.path()).leftovers, IsEmpty());
  EXPECT_EQ(BlockFilesIn(scratch_.path()).size(), 4u);
}

// A drive that fails under one of the new ranks: where its store is made, and where it is filled.
TEST_F(FailingReshard, AWriteThatFailsLeavesTheRunAsItWas) {
  for (uint64_t nth : {1, 20}) {
    RunRanks(MachinesOf({2}), [&](Communicator& communicator) {
      SessionOptions options{.start = kResume, .communicator = &communicator};
      if (communicator.rank() == 1) {
        options.create_engine =
            [&](const aio::IoEngineOptions& real) -> Result<std::unique_ptr<aio::IoEngine>> {
          STRATA_ASSIGN_OR_RETURN(std::unique_ptr<aio::IoEngine> engine,
                                  aio::IoEngine::Create(real));
          auto faulty = std::make_unique<fakes::FaultEngine>(std::move(engine));
          faulty->SpoilWrite({.error_number = EIO}, nth);
          return std::unique_ptr<aio::IoEngine>(std::move(faulty));
        };
      }
      const Status status = TrainWith(ConfigOf(scratch_.path(), to_), options, 0).status();
      EXPECT_FALSE(status.ok());
      EXPECT_THAT(status.message(), AllOf(HasSubstr("rank-1.blocks"), HasSubstr("moving")));
    });
    ExpectOnlyTheRunsBlocks(scratch_.path());
  }
  ExpectFourGoOnAsBefore();
}

// What a kill in the middle leaves: half of the new stores, and a list that names them. Whoever
// resumes then, as many as before or others, removes them.
TEST_F(FailingReshard, WhatAKilledOneLeavesIsRemovedByTheNextResume) {
  RunStores stores = StoresIn(scratch_.path());
  const std::string path = scratch_.path() + "/run/stores.json";
  StoreSet half = stores.current;
  half.number = 2;
  half.world_size = 6;
  stores.leftovers = {half};
  std::ofstream(path) << ToJson(stores);
  const std::string run_id = OrDie(aio::ReadSmallFile(scratch_.path() + "/run/run_id", 4096));
  const std::string folder = fmt::format("{}/nvme/strata-{}.2", scratch_.path(), run_id);
  fs::create_directories(folder);
  for (const char* name : {"rank-0.blocks", "rank-0.lock", "rank-5.blocks", "rank-5.manifest-1"})
    std::ofstream(folder + "/" + name) << "half";
  const RunOutcome two = Outcome(to_, scratch_.path(), kResume, 0);
  EXPECT_EQ(two.first_step, 2u);
  ExpectOnlyTheRunsBlocks(scratch_.path());
  EXPECT_FALSE(fs::exists(folder));
  // Numbers are not used again: that of the half ones neither.
  EXPECT_EQ(StoresIn(scratch_.path()).current.number, 3u);
}

// Another job is at work on the state.
TEST_F(FailingReshard, AStateInUseIsNotMoved) {
  const RunStores stores = StoresIn(scratch_.path());
  const std::string run_id = OrDie(aio::ReadSmallFile(scratch_.path() + "/run/run_id", 4096));
  {
    auto hold = OrDie(tiering::StoreHold::Acquire(stores.current.directories, run_id, 3));
    ExpectFailure(to_, Code::kFailedPrecondition, HasSubstr("is held by process"));
  }
  ExpectFourGoOnAsBefore();
}

}  // namespace
}  // namespace strata::engine
