// strata checkpoint as a user meets it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/tools/program.h"

namespace strata::tools {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// Eight steps on nvme, of which 7 and 8 are kept.
class CheckpointProgramTest : public testing::Test {
 protected:
  CheckpointProgramTest() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/checkpoint-XXXXXX";
    directory_ = mkdtemp(pattern.data());
    run_ = directory_ + "/run";
    to_ = directory_ + "/portable";
    config_ = WriteTinyConfig(directory_, 8);
    trained_ = RunStrata({"train", config_, "--json", "--set", "checkpoint.keep_last=2"});
    EXPECT_EQ(trained_.exit_code, 0) << trained_.err;
  }
  ~CheckpointProgramTest() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

  std::string directory_, run_, to_, config_;
  Outcome trained_;
};

TEST_F(CheckpointProgramTest, ListAsJsonHasTheSameKeysForEveryKind) {
  ASSERT_EQ(RunStrata({"checkpoint", "export", run_, "--to", to_, "--ranks", "2"}).exit_code, 0);
  for (const auto& [path, kinds] :
       {std::pair<std::string, std::vector<std::string>>{run_, {"kept", "kept"}},
        {to_, {"portable"}}}) {
    const Outcome outcome = RunStrata({"checkpoint", "list", path, "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(RunStrata({"checkpoint", "list", path, "--json"}).out, outcome.out);
    const auto json = nlohmann::ordered_json::parse(outcome.out);
    ASSERT_EQ(json["checkpoints"].size(), kinds.size());
    for (size_t i = 0; i < kinds.size(); ++i) {
      std::vector<std::string> keys;
      for (const auto& [key, value] : json["checkpoints"][i].items()) keys.push_back(key);
      EXPECT_THAT(keys, ElementsAre("step", "kind", "complete", "path", "ranks", "bytes", "made_at",
                                    "precision", "state_format", "seq_len", "train_batch_size"));
      EXPECT_EQ(json["checkpoints"][i]["kind"], kinds[i]);
      EXPECT_EQ(json["checkpoints"][i]["complete"], true);
    }
    EXPECT_EQ(json["checkpoints"].back()["step"], 8);
  }
  EXPECT_THAT(RunStrata({"checkpoint", "list", run_}).out,
              AllOf(HasSubstr("complete"), HasSubstr("kept"), HasSubstr("MiB")));
}

TEST_F(CheckpointProgramTest, VerifyIsExitCodeOneWhereAnythingIsDamaged) {
  ASSERT_EQ(RunStrata({"checkpoint", "export", run_, "--to", to_}).exit_code, 0);
  EXPECT_EQ(RunStrata({"checkpoint", "verify", run_}).exit_code, 0);
  Outcome outcome = RunStrata({"checkpoint", "verify", to_});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("all as they were written"));
  EXPECT_THAT(outcome.err, HasSubstr("verifying " + to_));
  std::fstream(to_ + "/rank-0-of-1.safetensors", std::ios::in | std::ios::out | std::ios::binary)
          .seekp(5000)
      << "!!!!";
  outcome = RunStrata({"checkpoint", "verify", to_});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.out, AllOf(StartsWith("DAMAGED"), HasSubstr("rank-0-of-1.safetensors"),
                                 HasSubstr("tensor 'embedding/w'")));
  outcome = RunStrata({"checkpoint", "verify", to_, "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["damages"][0]["step"], 8);
}

// Later and later, until one comes too late: whatever has the name is whole.
TEST_F(CheckpointProgramTest, AnExportThatIsKilledLeavesNoCheckpointAndTheNextOneSucceeds) {
  for (int i = 0; !fs::exists(to_); ++i) {
    RunStrata({"checkpoint", "export", run_, "--to", to_},
              Disturbance{.after = std::chrono::microseconds(1000 * i)});
  }
  EXPECT_EQ(RunStrata({"checkpoint", "verify", to_}).exit_code, 0);
  const Outcome again = RunStrata({"checkpoint", "export", run_, "--to", to_});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr(to_ + " exists"));
  EXPECT_EQ(RunStrata({"checkpoint", "export", run_, "--to", to_ + "2"}).exit_code, 0);
}

TEST_F(CheckpointProgramTest, PruneSaysWhatItRemovesAndTheRunGoesOn) {
  Outcome outcome = RunStrata({"checkpoint", "prune", run_, "--keep", "1"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("removed step 7 of " + run_));
  EXPECT_FALSE(fs::exists(run_ + "/checkpoints/step-000007"));
  EXPECT_THAT(RunStrata({"checkpoint", "prune", run_, "--keep", "1"}).out,
              HasSubstr("nothing to remove"));
  outcome = RunStrata({"checkpoint", "prune", run_, "--step", "8"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("step 8 stays"));
  EXPECT_EQ(RunStrata({"checkpoint", "prune", run_}).exit_code, 2);
  EXPECT_EQ(RunStrata({"train", config_, "--resume", "--set", "train.steps=9"}).exit_code, 0);
}

// From nvme to host memory, from one file to three.
TEST_F(CheckpointProgramTest, ARunStartsFromAPortableCheckpointAndEndsWithTheSameBits) {
  for (const auto& [to, step] :
       {std::pair<std::string, std::string>{to_ + "8", "8"}, {to_ + "7", "7"}}) {
    ASSERT_EQ(RunStrata({"checkpoint", "export", run_, "--to", to, "--step", step, "--ranks", "3"})
                  .exit_code,
              0);
    const Outcome outcome = RunStrata({"train", config_, "--from", to, "--json", "--set",
                                       "train.run_dir=" + directory_ + "/run" + step, "--set",
                                       "zero_optimization.offload_param.device=cpu", "--set",
                                       "zero_optimization.offload_optimizer.device=cpu"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(JsonValue(outcome.out, "steps_done"), "8");
    EXPECT_EQ(JsonValue(outcome.out, "state_hash"), JsonValue(trained_.out, "state_hash"));
  }
  const Outcome none = RunStrata({"train", config_, "--from", directory_ + "/none", "--set",
                                  "train.run_dir=" + directory_ + "/other"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr(directory_ + "/none is no checkpoint"));
  EXPECT_FALSE(fs::exists(directory_ + "/other/run_id"));
}

TEST_F(CheckpointProgramTest, WhatIsNoCheckpointIsAnErrorThatSaysWhatIs) {
  for (const char* command : {"list", "verify"}) {
    const Outcome outcome = RunStrata({"checkpoint", command, directory_ + "/nvme"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("error: "), HasSubstr("checkpoint export")));
  }
  EXPECT_THAT(RunStrata({"checkpoint", "export", run_, "--to", to_, "--step", "3"}).err,
              HasSubstr("it has those of steps: 7 8"));
  EXPECT_EQ(RunStrata({"checkpoint"}).exit_code, 2);
}

}  // namespace
}  // namespace strata::tools
