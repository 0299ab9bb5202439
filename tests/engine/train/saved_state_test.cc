// A committed state read whole, whoever wrote it; and the exports that are made of it.
#include "engine/train/saved_state.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "engine/train/export_run.h"
#include "tests/engine/train/rank_jobs.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kNew = SessionOptions::Start::kNew;

std::string FileAt(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result<std::string> Exported(const std::string& directory, std::optional<DType> dtype,
                             std::optional<uint64_t> step = {}) {
  ScratchDirectory to;
  ExportRunOptions options;
  options.run_dir = directory + "/run";
  options.to = to.path() + "/exported";
  options.dtype = dtype;
  options.step = step;
  STRATA_RETURN_IF_ERROR(ExportRun(options).status());
  return FileAt(options.to + "/model.safetensors");
}

// All stages have the same bits, and here the files show it: only the masters of one stage are cut
// as those of another are.
TEST(SavedState, OfAllStagesIsExportedTheSame) {
  std::vector<std::string> expected;
  for (const auto& [world, stage, weights, optimizer] :
       {std::tuple(2u, 3, "nvme", "nvme"), std::tuple(2u, 0, "device", "device"),
        std::tuple(2u, 1, "device", "nvme"), std::tuple(2u, 2, "device", "host")}) {
    const Job job{world, stage, weights, optimizer, 2, {"model.part_size=16KiB"}};
    SCOPED_TRACE(Describe(job));
    ScratchDirectory scratch;
    Outcome(job, scratch.path(), kNew);
    const std::vector<std::string> files = {OrDie(Exported(scratch.path(), {})),
                                            OrDie(Exported(scratch.path(), DType::kF32))};
    ASSERT_GT(files[0].size(), 100'000u);
    if (expected.empty()) expected = files;
    EXPECT_TRUE(files == expected);
  }
}

TEST(SavedState, OfAnEarlierStepIsThatOfARunThatEndedThere) {
  Job job{
      .world = 2,
      .steps = 4,
      .more = {"checkpoint.every_steps=2", "checkpoint.keep_last=2", "scheduler.type=constant"}};
  ScratchDirectory scratch;
  Outcome(job, scratch.path(), kNew);
  ScratchDirectory shorter;
  job.steps = 2;
  Outcome(job, shorter.path(), kNew);
  EXPECT_TRUE(OrDie(Exported(scratch.path(), {}, 2)) == OrDie(Exported(shorter.path(), {})));
  EXPECT_THAT(Exported(scratch.path(), {}, 3).status().message(),
              HasSubstr("no state of step 3; it has those of steps: 2 4"));
}

// As on a machine that has only some of the drives.
TEST(SavedState, ARankThatIsNotToBeSeenIsNamed) {
  ScratchDirectory scratch;
  Outcome({.world = 2}, scratch.path(), kNew);
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(scratch.path() + "/nvme")) {
    if (entry.path().filename().string().starts_with("rank-1.manifest"))
      std::filesystem::remove(entry.path());
  }
  const Status status = Exported(scratch.path(), {}).status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 1 of 2"), HasSubstr("rank-1.manifest-"),
                                      HasSubstr(scratch.path() + "/nvme")));
}

}  // namespace
}  // namespace strata::engine
