// A state that was carried away as files is, on whatever it comes back to, the state that it was.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "engine/train/checkpoint_list.h"
#include "engine/train/checkpoint_verify.h"
#include "engine/train/portable_checkpoint.h"
#include "tests/engine/train/rank_jobs.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto kNew = SessionOptions::Start::kNew;
constexpr auto kResume = SessionOptions::Start::kResume;

Status Export(const std::string& directory, const std::string& to,
              std::optional<uint32_t> ranks = {}) {
  ExportCheckpointOptions options;
  options.run_dir = directory + "/run";
  options.to = to;
  options.ranks = ranks;
  return ExportCheckpoint(options).status();
}

std::vector<Result<RunOutcome>> TrainFrom(const Job& job, const std::string& directory,
                                          const std::string& from,
                                          SessionOptions::Start start = kNew) {
  const ThreadWorld world = MachinesOf({job.world});
  const RunConfig config = ConfigOf(directory, job);
  std::vector<Result<RunOutcome>> outcomes(job.world, Internal("did not run"));
  RunRanks(world, [&](Communicator& communicator) {
    SessionOptions options;
    options.start = start;
    options.from = from;
    options.communicator = &communicator;
    outcomes[communicator.rank()] = TrainWith(config, options);
  });
  return outcomes;
}

void Flip(const std::string& path, uint64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

std::vector<std::string> DamageOf(const std::string& path) {
  std::vector<std::string> messages;
  OrDie(VerifyCheckpoints(
      {.path = path,
       .step = {},
       .on_damage = [&](const CheckpointInfo&,
                        const Status& what) { messages.push_back(what.message()); },
       .on_progress = [](const CheckpointInfo&, uint64_t, uint64_t) {}}));
  return messages;
}

struct Format {
  std::string name;
  std::vector<std::string> sets;
  bool has_all_stages = true;  // on several ranks
};

class PortableFormatTest : public testing::TestWithParam<Format> {
 protected:
  Job With(Job job) const {
    job.more.insert(job.more.end(), GetParam().sets.begin(), GetParam().sets.end());
    if (!GetParam().has_all_stages) job.stage = 3;
    return job;
  }
  ScratchDirectory scratch_;
};

// Files for 1, 3 and 2 ranks; a run of no more steps is its first state, whose hash shows neither
// shards nor homes.
TEST_P(PortableFormatTest, ComesBackOnOtherRanksStagesAndTiers) {
  const Job writer = With({.world = 2, .stage = 3, .steps = 2});
  const RunOutcome written = Outcome(writer, scratch_.path(), kNew);
  ASSERT_NE(written.summary.state_hash, 0u);
  uint32_t files = 1;
  for (const Job& reader : {Job{4, 2, "device", "host", 2}, Job{1, 3, "host", "nvme", 2},
                            Job{2, 3, "nvme", "nvme", 2}}) {
    SCOPED_TRACE(fmt::format("{} files, {}", files, Describe(reader)));
    const std::string to = fmt::format("{}/portable-{}", scratch_.path(), files);
    ASSERT_EQ(Export(scratch_.path(), to, files).message(), "");
    EXPECT_THAT(DamageOf(to), IsEmpty());
    ScratchDirectory other;
    for (Result<RunOutcome>& outcome : TrainFrom(With(reader), other.path(), to)) {
      ASSERT_TRUE(outcome.ok()) << outcome.status().ToString();
      EXPECT_EQ(outcome->first_step, 2u);
      EXPECT_EQ(outcome->summary.weights_hash, written.summary.weights_hash);
      EXPECT_EQ(outcome->summary.state_hash, written.summary.state_hash);
    }
    files = files % 3 + 2;
  }
}

TEST_P(PortableFormatTest, GoesOnWithTheSameBitsOnAsManyRanks) {
  const Job job = With({.world = 2, .stage = 3, .steps = 4});
  const RunOutcome undisturbed = Outcome(job);
  Outcome(job, scratch_.path(), kNew, /*stop_after=*/2);
  const std::string to = scratch_.path() + "/portable";
  ASSERT_EQ(Export(scratch_.path(), to).message(), "");
  ScratchDirectory other;
  const Job reader = With({.world = 2, .stage = 1, .weights = "device", .steps = 4});
  for (Result<RunOutcome>& rest : TrainFrom(reader, other.path(), to)) {
    ASSERT_TRUE(rest.ok()) << rest.status().ToString();
    EXPECT_EQ(rest->first_step, 2u);
    EXPECT_THAT(rest->losses, ElementsAre(undisturbed.losses[2], undisturbed.losses[3]));
    EXPECT_EQ(rest->loss_scales.back(), undisturbed.loss_scales.back());
    EXPECT_EQ(rest->summary.state_hash, undisturbed.summary.state_hash);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PortableFormatTest,
                         testing::Values(Format{"bf16_split", {"model.part_size=16KiB"}},
                                         Format{"bf16_fp32", {"optimizer.state=\"fp32\""}},
                                         Format{"bf16_int8", {"optimizer.state=\"int8\""}},
                                         Format{"fp32", {"train.precision=\"fp32\""}, false},
                                         Format{"fp16",
                                                {"train.precision=\"fp16\"",
                                                 "fp16.initial_scale_power=8",
                                                 "fp16.loss_scale_window=1"}}),
                         [](const auto& test) { return test.param.name; });

class PortableTest : public testing::Test {
 protected:
  // A run of two steps on two ranks, and its state in two files.
  void SetUp() override {
    Outcome({.world = 2, .steps = 2}, scratch_.path(), kNew);
    ASSERT_EQ(Export(scratch_.path(), to_).message(), "");
  }
  // Of rank 0, or of whichever has its own.
  Status From(const Job& job) {
    const std::string other = scratch_.path() + "/other";
    fs::create_directories(other + "/nvme");
    const Status status = TrainFrom(job, other, to_)[0].status();
    // A run that could not begin is not there.
    EXPECT_EQ(fs::exists(other + "/run/run_id"), status.ok());
    EXPECT_TRUE(status.ok() || !HasBlocks(other + "/nvme"));
    fs::remove_all(other);
    return status;
  }
  static bool HasBlocks(const std::string& directory) {
    for (const auto& entry : fs::recursive_directory_iterator(directory))
      if (entry.path().extension() == ".blocks") return true;
    return false;
  }

  ScratchDirectory scratch_;
  const std::string to_ = scratch_.path() + "/portable";
  const Job job_ = {.world = 2, .steps = 2};
};

TEST_F(PortableTest, WhatDoesNotFitIsRefusedByName) {
  EXPECT_EQ(From(job_).message(), "");
  for (const auto& [set, what] : {std::pair<std::string, std::string>{"data.seed=77", "seed"},
                                  {"model.rope_theta=20000.0", "another model"},
                                  {"optimizer.state=\"fp32\"", "[optimizer] state"},
                                  {"data.seq_len=8", "seq_len"}}) {
    const Status status = From({.world = 2, .steps = 2, .more = {set}});
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << set;
    EXPECT_THAT(status.message(), AllOf(HasSubstr(to_), HasSubstr(what)));
  }
}

TEST_F(PortableTest, DamageIsFoundByVerifyAndRefusedWithFileTensorAndOffset) {
  const std::string file = to_ + "/rank-1-of-2.safetensors";
  const uint64_t size = fs::file_size(file);
  Flip(file, size - 1);
  const auto names_it = AllOf(HasSubstr(file), HasSubstr("tensor 'head/v' is not what was written"),
                              HasSubstr(fmt::format("to {})", size)));
  EXPECT_THAT(DamageOf(to_), ElementsAre(names_it));
  const Status status = From(job_);
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), names_it);
  Flip(file, size - 1);

  Flip(to_ + "/rank-0-of-2.safetensors", 30);
  EXPECT_THAT(DamageOf(to_), ElementsAre(HasSubstr("rank-0-of-2.safetensors: its header")));
  EXPECT_THAT(From(job_).message(), HasSubstr("rank-0-of-2.safetensors: its header"));
  Flip(to_ + "/rank-0-of-2.safetensors", 30);

  Flip(to_ + "/manifest.json", fs::file_size(to_ + "/manifest.json") / 2);
  EXPECT_THAT(DamageOf(to_), ElementsAre(HasSubstr("manifest.json is damaged")));
  EXPECT_THAT(From(job_).message(), HasSubstr("manifest.json is damaged"));
}

TEST_F(PortableTest, AMissingFileIsIncompleteAndRefused) {
  fs::remove(to_ + "/rank-1-of-2.safetensors");
  const std::vector<CheckpointInfo> list = OrDie(ListCheckpoints(to_));
  ASSERT_EQ(list.size(), 1u);
  EXPECT_THAT(list[0].problem, HasSubstr("rank-1-of-2.safetensors is missing"));
  EXPECT_THAT(From(job_).message(), HasSubstr("rank-1-of-2.safetensors is missing"));
}

// So that a launcher may start the same command again and again.
TEST_F(PortableTest, WithResumeItBeginsOnceAndGoesOnThen) {
  ScratchDirectory other;
  Job job{.world = 2, .steps = 3};
  EXPECT_EQ(OrDie(std::move(TrainFrom(job, other.path(), to_, kResume)[0])).first_step, 2u);
  fs::remove_all(to_);
  job.steps = 4;
  EXPECT_EQ(OrDie(std::move(TrainFrom(job, other.path(), to_, kResume)[0])).first_step, 3u);
}

}  // namespace
}  // namespace strata::engine
