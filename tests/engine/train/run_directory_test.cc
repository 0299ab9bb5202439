#include "engine/train/run_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

class RunDirectoryTest : public testing::Test {
 protected:
  std::string Path() const { return scratch_.path() + "/run"; }
  std::string Metrics() const {
    std::stringstream text;
    text << std::ifstream(Path() + "/metrics.jsonl").rdbuf();
    return text.str();
  }
  ScratchDirectory scratch_;
};

// Torn behind an inner object: ends as a whole line does, but is none.
TEST_F(RunDirectoryTest, TruncatingDropsALineThatIsTornBehindABrace) {
  RunDirectory directory = OrDie(RunDirectory::Create(Path()));
  std::ofstream(Path() + "/metrics.jsonl") << "{\"step\":1}\n{\"step\":2,\"lanes\":{\"h2d\":{}";
  ASSERT_TRUE(directory.TruncateMetrics(5).ok());
  EXPECT_EQ(Metrics(), "{\"step\":1}\n");
}

TEST_F(RunDirectoryTest, KeepsItsIdForLife) {
  RunDirectory made = OrDie(RunDirectory::Create(Path()));
  RunDirectory opened = OrDie(RunDirectory::Open(Path()));
  EXPECT_EQ(made.run_id(), opened.run_id());
  EXPECT_TRUE(RunDirectory::HoldsRun(Path()));
}

TEST_F(RunDirectoryTest, HoldsOneRunOnly) {
  OrDie(RunDirectory::Create(Path()));
  Result<RunDirectory> again = RunDirectory::Create(Path());
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.status().code(), Code::kAlreadyExists);
  EXPECT_THAT(again.status().message(), HasSubstr(Path()));
}

TEST_F(RunDirectoryTest, WithoutARunIsNotFound) {
  Result<RunDirectory> none = RunDirectory::Open(Path());
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), Code::kNotFound);
  EXPECT_FALSE(RunDirectory::HoldsRun(Path()));
}

// The id becomes part of file names on nvme.
TEST_F(RunDirectoryTest, IdsHaveNoCharacterThatAFileNameCannot) {
  RunDirectory made = OrDie(RunDirectory::Create(scratch_.path() + "/my run: v1.5 (größer)"));
  EXPECT_THAT(made.run_id(), StartsWith("my_run__v1_5_"));
  EXPECT_TRUE(std::all_of(made.run_id().begin(), made.run_id().end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_';
  })) << made.run_id();
}

TEST_F(RunDirectoryTest, RunsOfOneNameHaveDifferentIds) {
  RunDirectory first = OrDie(RunDirectory::Create(scratch_.path() + "/a/run"));
  RunDirectory second = OrDie(RunDirectory::Create(scratch_.path() + "/b/run"));
  EXPECT_NE(first.run_id(), second.run_id());
}

TEST_F(RunDirectoryTest, TruncatingForgetsTheStepsThatWillBeMadeAgain) {
  RunDirectory directory = OrDie(RunDirectory::Create(Path()));
  for (int step : {1, 2, 9, 10, 11}) {
    std::string line = "{\"step\":" + std::to_string(step) + ",\"loss\":1.5}";
    ASSERT_TRUE(directory.AppendMetrics(line).ok());
  }
  ASSERT_TRUE(directory.TruncateMetrics(9).ok());
  EXPECT_EQ(Metrics(),
            "{\"step\":1,\"loss\":1.5}\n{\"step\":2,\"loss\":1.5}\n{\"step\":9,\"loss\":1.5}\n");
  ASSERT_TRUE(directory.TruncateMetrics(0).ok());
  EXPECT_EQ(Metrics(), "");
}

TEST_F(RunDirectoryTest, TruncatingDropsALineThatAKillHasTorn) {
  RunDirectory directory = OrDie(RunDirectory::Create(Path()));
  std::ofstream(Path() + "/metrics.jsonl") << "{\"step\":1,\"loss\":1.5}\n{\"step\":2,\"lo";
  ASSERT_TRUE(directory.TruncateMetrics(5).ok());
  ASSERT_TRUE(directory.AppendMetrics("{\"step\":2}").ok());
  EXPECT_EQ(Metrics(), "{\"step\":1,\"loss\":1.5}\n{\"step\":2}\n");
}

TEST_F(RunDirectoryTest, TruncatingWithoutMetricsIsNothingToDo) {
  RunDirectory directory = OrDie(RunDirectory::Create(Path()));
  EXPECT_TRUE(directory.TruncateMetrics(3).ok());
  EXPECT_FALSE(fs::exists(Path() + "/metrics.jsonl"));
}

TEST_F(RunDirectoryTest, ACheckpointIsAFolderThatIsMadeAndRemoved) {
  RunDirectory directory = OrDie(RunDirectory::Create(Path()));
  ASSERT_TRUE(directory.WriteCheckpoint(12, "{}").ok());
  EXPECT_TRUE(fs::exists(Path() + "/checkpoints/step-000012/manifest.json"));
  ASSERT_TRUE(directory.RemoveCheckpoint(12).ok());
  EXPECT_FALSE(fs::exists(Path() + "/checkpoints/step-000012"));
}

TEST_F(RunDirectoryTest, RemovingTheRunLeavesWhatIsNotOurs) {
  RunDirectory directory = OrDie(RunDirectory::Create(Path()));
  ASSERT_TRUE(directory.WriteConfig("x = 1\n").ok());
  ASSERT_TRUE(directory.AppendMetrics("{\"step\":1}").ok());
  std::ofstream(Path() + "/notes.txt") << "mine";
  ASSERT_TRUE(directory.RemoveFiles().ok());
  EXPECT_FALSE(RunDirectory::HoldsRun(Path()));
  EXPECT_FALSE(fs::exists(Path() + "/config.toml"));
  EXPECT_TRUE(fs::exists(Path() + "/notes.txt"));
}

}  // namespace
}  // namespace strata::engine
