// Lists, verifies and prunes the checkpoints of runs and of directories.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/train/checkpoint_list.h"
#include "engine/train/checkpoint_prune.h"
#include "engine/train/checkpoint_verify.h"
#include "engine/train/portable_checkpoint.h"
#include "engine/train/run_directory.h"
#include "tests/engine/train/rank_jobs.h"
#include "tiering/block_store.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kNew = SessionOptions::Start::kNew;
constexpr auto kResume = SessionOptions::Start::kResume;

// Six steps of two ranks, of which 2, 4 and 6 are kept.
class CheckpointCommandsTest : public testing::Test {
 protected:
  void SetUp() override { Outcome(job_, scratch_.path(), kNew); }

  std::vector<uint64_t> Steps() const {
    std::vector<uint64_t> steps;
    for (const CheckpointInfo& info : OrDie(ListCheckpoints(run_))) steps.push_back(info.step);
    return steps;
  }
  std::vector<std::string> Damage() const {
    std::vector<std::string> messages;
    OrDie(VerifyCheckpoints(
        {.path = run_,
         .step = {},
         .on_damage = [&](const CheckpointInfo&,
                          const Status& what) { messages.push_back(what.message()); },
         .on_progress = [](const CheckpointInfo&, uint64_t, uint64_t) {}}));
    return messages;
  }
  std::string Folder() const {
    return nvme_ + "/strata-" + OrDie(RunDirectory::Open(run_)).run_id();
  }

  ScratchDirectory scratch_;
  const std::string run_ = scratch_.path() + "/run";
  const std::string nvme_ = scratch_.path() + "/nvme";
  const Job job_ = {
      .world = 2, .steps = 6, .more = {"checkpoint.every_steps=2", "checkpoint.keep_last=3"}};
};

TEST_F(CheckpointCommandsTest, ListTellsStepsRanksSizesAndTimes) {
  const std::vector<CheckpointInfo> list = OrDie(ListCheckpoints(run_));
  ASSERT_EQ(list.size(), 3u);
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].step, 2 * (i + 1));
    EXPECT_EQ(list[i].kind, CheckpointKind::kKept);
    EXPECT_EQ(list[i].ranks, 2u);
    EXPECT_TRUE(list[i].is_complete()) << list[i].problem;
    EXPECT_GT(list[i].size_bytes, 100'000u);
    EXPECT_TRUE(list[i].made_at.has_value());
  }
  EXPECT_THAT(Damage(), IsEmpty());
}

TEST_F(CheckpointCommandsTest, ARankWhoseFilesAreNotThereMakesAllIncomplete) {
  for (const auto& entry : fs::directory_iterator(Folder())) {
    if (entry.path().filename().string().starts_with("rank-1.manifest")) fs::remove(entry.path());
  }
  for (const CheckpointInfo& info : OrDie(ListCheckpoints(run_)))
    EXPECT_THAT(info.problem, AllOf(HasSubstr("rank 1"), HasSubstr(nvme_)));
  EXPECT_THAT(Damage(), Contains(HasSubstr("rank 1")));
  EXPECT_EQ(PruneCheckpoints({.path = run_, .keep = 1}).status().code(), Code::kFailedPrecondition);
}

TEST_F(CheckpointCommandsTest, VerifyNamesTheBlockOfARankThatIsDamaged) {
  std::fstream file(Folder() + "/rank-1.blocks", std::ios::in | std::ios::out | std::ios::binary);
  const uint64_t size = fs::file_size(Folder() + "/rank-1.blocks");
  for (uint64_t page = 0; page < size; page += 4096) {
    file.seekp(static_cast<std::streamoff>(page + 8));
    file.put('!');
  }
  file.close();
  const std::vector<std::string> damage = Damage();
  ASSERT_FALSE(damage.empty());
  for (const std::string& one : damage)
    EXPECT_THAT(one, AllOf(HasSubstr("rank-1.blocks"), HasSubstr("block '")));
}

TEST_F(CheckpointCommandsTest, PruneTakesPinsFoldersAndSpaceAndTheRunGoesOn) {
  EXPECT_EQ(OrDie(PruneCheckpoints({.path = run_, .keep = 2, .dry_run = true})).size(), 1u);
  EXPECT_THAT(Steps(), ElementsAre(2, 4, 6));
  EXPECT_EQ(OrDie(PruneCheckpoints({.path = run_, .keep = 2})).size(), 1u);
  EXPECT_THAT(Steps(), ElementsAre(4, 6));
  EXPECT_EQ(OrDie(PruneCheckpoints({.path = run_, .steps = {4}})).size(), 1u);
  EXPECT_THAT(Steps(), ElementsAre(6));
  EXPECT_FALSE(fs::exists(run_ + "/checkpoints/step-000002"));
  EXPECT_FALSE(fs::exists(run_ + "/checkpoints/step-000004"));
  EXPECT_TRUE(fs::exists(run_ + "/checkpoints/step-000006"));
  for (uint32_t rank : {0u, 1u}) {
    EXPECT_EQ(
        OrDie(tiering::BlockStore::List({nvme_}, OrDie(RunDirectory::Open(run_)).run_id(), rank))
            .size(),
        1u);
  }
  EXPECT_THAT(Damage(), IsEmpty());
  Job longer = job_;
  longer.steps = 8;
  EXPECT_EQ(Outcome(longer, scratch_.path(), kResume).first_step, 6u);
  EXPECT_THAT(Steps(), ElementsAre(6, 8));
}

TEST_F(CheckpointCommandsTest, TheNewestStateStays) {
  const Status status = PruneCheckpoints({.path = run_, .steps = {2, 6}}).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("step 6 stays"));
  EXPECT_THAT(Steps(), ElementsAre(2, 4, 6));
  EXPECT_EQ(OrDie(PruneCheckpoints({.path = run_, .keep = 0})).size(), 2u);
  EXPECT_THAT(Steps(), ElementsAre(6));
  EXPECT_THAT(PruneCheckpoints({.path = run_, .steps = {4}}).status().message(),
              HasSubstr("no checkpoint of step 4; it has those of steps: 6"));
}

TEST_F(CheckpointCommandsTest, ARunInUseIsNotPruned) {
  const std::string id = OrDie(RunDirectory::Open(run_)).run_id();
  const tiering::StoreHold hold = OrDie(tiering::StoreHold::Acquire({nvme_}, id, /*rank=*/1));
  const Status status = PruneCheckpoints({.path = run_, .keep = 1}).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("rank-1.lock"));
  EXPECT_THAT(Steps(), ElementsAre(2, 4, 6));
}

TEST_F(CheckpointCommandsTest, DirectoriesOfPortableCheckpointsAreListedAndPruned) {
  const std::string all = scratch_.path() + "/all";
  fs::create_directory(all);
  for (uint64_t step : {4, 2}) {
    ExportCheckpointOptions options;
    options.run_dir = run_;
    options.to = fmt::format("{}/of-{}", all, step);
    options.step = step;
    OrDie(ExportCheckpoint(options));
  }
  fs::copy(all + "/of-2", all + "/of-9.partial-1");  // as a killed writer leaves
  std::vector<CheckpointInfo> list = OrDie(ListCheckpoints(all));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].path, all + "/of-2");
  EXPECT_EQ(list[1].step, 4u);
  OrDie(PruneCheckpoints({.path = all, .keep = 1}));
  EXPECT_FALSE(fs::exists(all + "/of-2"));
  EXPECT_TRUE(fs::exists(all + "/of-4/manifest.json"));
  EXPECT_EQ(ListCheckpoints(nvme_).status().code(), Code::kNotFound);
}

}  // namespace
}  // namespace strata::engine
