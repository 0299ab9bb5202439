// Which checkpoints a run leaves, seen from its directory.
#include "engine/train/checkpointer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class CheckpointerTest : public testing::TestWithParam<std::string> {
 protected:
  // Ten steps, a checkpoint at 3, 6, 9 and 10.
  RunConfig Config(uint64_t keep_last, uint64_t every_steps = 3) {
    std::vector<std::string> sets = OffloadTo(GetParam(), scratch_.path());
    sets.push_back("train.steps=10");
    sets.push_back(fmt::format("checkpoint.every_steps={}", every_steps));
    sets.push_back(fmt::format("checkpoint.keep_last={}", keep_last));
    return OrDie(TinyConfig(scratch_.path(), sets));
  }
  std::vector<std::string> Checkpoints() const {
    std::vector<std::string> names;
    std::error_code none_there;
    for (const auto& entry :
         fs::directory_iterator(scratch_.path() + "/run/checkpoints", none_there)) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  ScratchDirectory scratch_;
};

TEST_P(CheckpointerTest, KeepLastZeroKeepsNoneAndTheRunStillResumes) {
  RunConfig config = Config(0);
  OrDie(TrainAndStopAfter(config, 4));
  EXPECT_THAT(Checkpoints(), IsEmpty());
  EXPECT_EQ(OrDie(Train(config, SessionOptions::Start::kResume)).first_step, 4u);
  EXPECT_THAT(Checkpoints(), IsEmpty());
}

TEST_P(CheckpointerTest, KeepLastOneKeepsTheNewest) {
  RunConfig config = Config(1);
  OrDie(TrainAndStopAfter(config, 6));
  EXPECT_THAT(Checkpoints(), ElementsAre("step-000006"));
  OrDie(Train(config, SessionOptions::Start::kResume));
  EXPECT_THAT(Checkpoints(), ElementsAre("step-000010"));
}

TEST_P(CheckpointerTest, KeepLastTwoKeepsTheNewestTwo) {
  OrDie(Train(Config(2)));
  EXPECT_THAT(Checkpoints(), ElementsAre("step-000009", "step-000010"));
}

TEST_P(CheckpointerTest, AStoppedRunKeepsItsCheckpointsAndResumesWhereItStopped) {
  RunConfig config = Config(2);
  OrDie(TrainAndStopAfter(config, 7));
  EXPECT_THAT(Checkpoints(), ElementsAre("step-000003", "step-000006"));
  EXPECT_EQ(OrDie(Train(config, SessionOptions::Start::kResume)).first_step, 7u);
  EXPECT_THAT(Checkpoints(), ElementsAre("step-000009", "step-000010"));
}

TEST_P(CheckpointerTest, WithoutAnIntervalTheLastStepIsTheOnlyCheckpoint) {
  OrDie(Train(Config(2, /*every_steps=*/0)));
  EXPECT_THAT(Checkpoints(), ElementsAre("step-000010"));
}

TEST_P(CheckpointerTest, KeepingMoreThanThereAreKeepsAll) {
  OrDie(Train(Config(9)));
  EXPECT_THAT(Checkpoints(),
              ElementsAre("step-000003", "step-000006", "step-000009", "step-000010"));
}

TEST_P(CheckpointerTest, AManifestNamesItsStepAndGeneration) {
  OrDie(Train(Config(1)));
  std::ifstream file(scratch_.path() + "/run/checkpoints/step-000010/manifest.json");
  nlohmann::json manifest = nlohmann::json::parse(file);
  EXPECT_EQ(manifest["step"], 10);
  EXPECT_GT(manifest["generation"], 0);
  EXPECT_EQ(manifest["record"]["step"], 10);
}

INSTANTIATE_TEST_SUITE_P(Tiers, CheckpointerTest, testing::Values("device", "host", "nvme"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace strata::engine
