#include "engine/train/step_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

namespace strata::engine {
namespace {

using prefetch::Lane;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

StepReport Report() {
  StepReport report{.step = 7,
                    .total_steps = 10,
                    .loss = 2.5,
                    .learning_rate = 0.125,
                    .gradient_norm = 4,
                    .clipped = true,
                    .tokens = 300,
                    .step_s = 1,
                    .commit_s = 0.5,
                    .lanes = {},
                    .nvme_bytes_read = 3,
                    .nvme_bytes_written = 4,
                    .comm_bytes_sent = 5,
                    .comm_bytes_received = 6};
  report.lanes[static_cast<size_t>(Lane::kCompute)] = {
      .bytes = 0, .busy_s = 0.5, .idle_s = 0.1, .stalled_s = {{"h2d", 0.3}, {"start", 0.1}}};
  report.lanes[static_cast<size_t>(Lane::kNvmeRead)] = {
      .bytes = 3'000, .busy_s = 1, .idle_s = 0, .stalled_s = {}};
  return report;
}

TEST(StepReportTest, RatesCountTheCommitAndStallsAreSharesOfTheStep) {
  EXPECT_DOUBLE_EQ(Report().seconds(), 1.5);
  EXPECT_DOUBLE_EQ(Report().tokens_per_s(), 200);
  EXPECT_DOUBLE_EQ(Report().bytes_per_s(Lane::kNvmeRead), 2'000);
  EXPECT_DOUBLE_EQ(Report().stall_fraction(), 0.4);
}

TEST(StepReportTest, IsOneLineOfJsonThatBeginsWithTheStep) {
  std::string text = ToJson(Report());
  EXPECT_THAT(text, StartsWith("{\"step\":7,"));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  nlohmann::json json = nlohmann::json::parse(text);
  EXPECT_EQ(json["loss"], 2.5);
  EXPECT_EQ(json["lr"], 0.125);
  EXPECT_EQ(json["grad_norm"], 4);
  EXPECT_EQ(json["clipped"], true);
  EXPECT_EQ(json["tokens_per_s"], 200);
  EXPECT_EQ(json["nvme_bytes_read"], 3);
  EXPECT_EQ(json["nvme_bytes_written"], 4);
  EXPECT_EQ(json["comm_bytes_sent"], 5);
  EXPECT_EQ(json["comm_bytes_received"], 6);
  EXPECT_EQ(json["lanes"].size(), prefetch::kNumLanes);
  EXPECT_EQ(json["lanes"]["nvme-read"]["bytes"], 3'000);
  EXPECT_EQ(json["lanes"]["compute"]["stalled_s"]["h2d"], 0.3);
}

// JSON has no NaN; a diverged run must still leave lines that every reader takes.
TEST(StepReportTest, ALossThatIsNotANumberIsStillJson) {
  StepReport report = Report();
  report.loss = NAN;
  report.gradient_norm = INFINITY;
  EXPECT_TRUE(nlohmann::json::accept(ToJson(report))) << ToJson(report);
}

}  // namespace
}  // namespace strata::engine
