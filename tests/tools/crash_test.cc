// Nothing lost: a run that is killed again and again ends with the bits of one that never was.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <random>
#include <string>

#include "tests/tools/program.h"

namespace strata::tools {
namespace {

class CrashTest : public testing::Test {
 protected:
  CrashTest() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/crash-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~CrashTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  std::string directory_;
};

int NumKills() {
  const char* text = getenv("STRATA_CRASH_KILLS");
  return text == nullptr ? 6 : atoi(text);
}

TEST_F(CrashTest, KilledAtRandomMomentsEndsWithTheSameBits) {
  constexpr int kSteps = 120;
  std::string calm = directory_ + "/calm";
  Outcome undisturbed = RunStrata({"train", WriteTinyConfig(calm, kSteps), "--json"});
  ASSERT_EQ(undisturbed.exit_code, 0) << undisturbed.err;

  std::string config = WriteTinyConfig(directory_ + "/stormy", kSteps);
  // Long enough to make progress, short enough to land everywhere: in the start, in a step, in a
  // commit.
  auto longest_us = static_cast<int64_t>(undisturbed.seconds * 1e6 * 2 / NumKills());
  std::mt19937_64 random(11);
  int kills = 0;
  for (int i = 0; i < NumKills(); ++i) {
    std::chrono::microseconds delay(
        std::uniform_int_distribution<int64_t>(1000, longest_us)(random));
    Outcome outcome = RunStrata({"train", config, "--resume", "--json"}, delay);
    ASSERT_TRUE(outcome.was_killed || outcome.exit_code == 0) << outcome.err;
    kills += outcome.was_killed ? 1 : 0;
  }
  EXPECT_GT(kills, NumKills() / 2) << "the run ended too early for this test to mean much";
  Outcome last = RunStrata({"train", config, "--resume", "--json"});
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(JsonValue(last.out, "steps_done"), std::to_string(kSteps));
  EXPECT_FALSE(JsonValue(last.out, "state_hash").empty());
  EXPECT_EQ(JsonValue(last.out, "state_hash"), JsonValue(undisturbed.out, "state_hash"));
  EXPECT_EQ(JsonValue(last.out, "weights_hash"), JsonValue(undisturbed.out, "weights_hash"));
}

}  // namespace
}  // namespace strata::tools
