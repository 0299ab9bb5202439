#include "engine/train/run_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/or_die.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

RunRecord Record() {
  return {.step = 41,
          .model_config = "{\"model_type\": \"llama\"}",
          .precision = "bf16",
          .state_format = "split",
          .world_size = 2,
          .data_fingerprint = 0xfedcba9876543210,
          .data_seed = UINT64_MAX,
          .seq_len = 128,
          .train_batch_size = 8};
}

TEST(RunRecordTest, ComesBackAsItWasWritten) {
  Result<RunRecord> read = ParseRunRecord(ToJson(Record()));
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->step, 41u);
  EXPECT_EQ(read->data_fingerprint, 0xfedcba9876543210);
  EXPECT_EQ(read->data_seed, UINT64_MAX);
  EXPECT_TRUE(CheckResumable(*read, Record()).ok());
}

// What a program from another time, or a drive, may leave.
TEST(RunRecordTest, OfFp16TheLossScaleIsPartOfIt) {
  RunRecord record = Record();
  record.precision = "fp16";
  record.progress = {
      .steps = record.step,
      .updates = 3,
      .loss_scale = {.scale = 4096, .steps = 9, .steps_since_change = 2, .hysteresis_left = 1}};
  RunRecord read = OrDie(ParseRunRecord(ToJson(record)));
  EXPECT_EQ(read.progress.updates, 3u);
  EXPECT_EQ(read.progress.loss_scale, record.progress.loss_scale);
}

TEST(RunRecordTest, ARecordWithoutUpdatesIsOfARunThatSkippedNone) {
  nlohmann::json old = nlohmann::json::parse(ToJson(Record()));
  old.erase("updates");
  EXPECT_EQ(OrDie(ParseRunRecord(old.dump())).progress.updates, Record().step);
}

TEST(RunRecordTest, ARecordWithoutPartsIsOfAModelThatIsNotCut) {
  nlohmann::json old = nlohmann::json::parse(ToJson(Record()));
  old.erase("parts");
  EXPECT_EQ(OrDie(ParseRunRecord(old.dump())).parts, "1 1 1");
}

TEST(RunRecordTest, DamageIsDataLossAndNamesTheRecord) {
  nlohmann::json whole = nlohmann::json::parse(ToJson(Record()));
  std::vector<std::string> damaged = {"", "{", "[]", "null", "\xff"};
  for (const auto& [key, value] : whole.items()) {
    nlohmann::json missing = whole;
    missing.erase(key);
    // There was a time when records did not have these: see below.
    if (key != "state_format" && key != "updates" && key != "parts" && key != "checkpoint" &&
        key != "stage")
      damaged.push_back(missing.dump());
    nlohmann::json other_type = whole;
    other_type[key] = nlohmann::json::array();
    damaged.push_back(other_type.dump());
  }
  nlohmann::json not_hex = whole;
  not_hex["data_fingerprint"] = "xyz";
  damaged.push_back(not_hex.dump());
  for (const std::string& text : damaged) {
    Result<RunRecord> read = ParseRunRecord(text);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().code(), Code::kDataLoss) << text;
    EXPECT_THAT(read.status().message(), HasSubstr("record")) << text;
  }
}

TEST(RunRecordTest, ARecordWithoutAStateFormatIsOfFp32) {
  nlohmann::json old = nlohmann::json::parse(ToJson(Record()));
  old.erase("state_format");
  Result<RunRecord> read = ParseRunRecord(old.dump());
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(read->state_format, "fp32");
  EXPECT_THAT(CheckResumable(*read, Record()).message(),
              AllOf(HasSubstr("[optimizer] state = fp32"), HasSubstr("split")));
}

TEST(RunRecordTest, TheStepAndTheRanksMayDifferAndNothingElse) {
  RunRecord later = Record();
  later.step = 99;
  later.world_size = 1;
  later.stage = 1;
  EXPECT_TRUE(CheckResumable(later, Record()).ok());

  struct Change {
    std::string named;
    std::function<void(RunRecord&)> apply;
  };
  const std::vector<Change> changes = {
      {"another model", [](RunRecord& r) { r.model_config = "{}"; }},
      {"precision", [](RunRecord& r) { r.precision = "fp32"; }},
      {"[optimizer] state", [](RunRecord& r) { r.state_format = "int8"; }},
      {"part_size", [](RunRecord& r) { r.parts = "2 1 2"; }},
      {"dataset", [](RunRecord& r) { r.data_fingerprint = 1; }},
      {"seed", [](RunRecord& r) { r.data_seed = 1; }},
      {"seq_len", [](RunRecord& r) { r.seq_len = 64; }},
      {"train_batch_size", [](RunRecord& r) { r.train_batch_size = 4; }}};
  for (const Change& change : changes) {
    RunRecord now = Record();
    change.apply(now);
    Status status = CheckResumable(Record(), now);
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << change.named;
    EXPECT_THAT(status.message(), AllOf(HasSubstr(change.named), HasSubstr("run_dir")));
  }
}

}  // namespace
}  // namespace strata::engine
