// Nothing lost: a run that is killed again and again ends with the bits of one that never was.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/tools/program.h"

namespace strata::tools {
namespace {

constexpr int kStepsPerKill = 10;

struct Case {
  std::string name;
  std::vector<std::string> sets;

  friend void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }
};

class CrashTest : public testing::TestWithParam<Case> {
 protected:
  CrashTest() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/crash-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~CrashTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  Outcome Train(const std::string& config,
                const std::optional<Disturbance>& disturbance = {}) const {
    std::vector<std::string> arguments = {"train", config, "--resume", "--json"};
    for (const std::string& set : GetParam().sets) {
      arguments.push_back("--set");
      arguments.push_back(set);
    }
    return RunStrata(arguments, disturbance);
  }
  std::string directory_;
};

int NumKills() {
  const char* text = getenv("STRATA_CRASH_KILLS");
  return text == nullptr ? 6 : atoi(text);
}

// The names of the checkpoints that a run shows.
std::set<std::string> Checkpoints(const std::string& directory) {
  std::set<std::string> names;
  std::error_code none_there;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory + "/run/checkpoints", none_there)) {
    names.insert(entry.path().filename());
  }
  return names;
}

// Lands everywhere: every other one in the start, the rest in a step or its commit, ever later.
Disturbance Kill(int i, std::mt19937_64& random) {
  if (i % 2 == 1) return {.after = std::chrono::microseconds(1'000 + random() % 80'000)};
  return {.when_out_contains = fmt::format("{{\"step\":{},", (i + 1) * kStepsPerKill),
          .after = std::chrono::microseconds(random() % 5'000)};
}

TEST_P(CrashTest, KilledAtRandomMomentsEndsWithTheSameBits) {
  int num_kills = NumKills();
  int num_steps = (num_kills + 1) * kStepsPerKill;
  Outcome undisturbed = Train(WriteTinyConfig(directory_ + "/calm", num_steps));
  ASSERT_EQ(undisturbed.exit_code, 0) << undisturbed.err;

  std::string config = WriteTinyConfig(directory_ + "/stormy", num_steps);
  std::mt19937_64 random(11);
  int kills = 0;
  for (int i = 0; i < num_kills; ++i) {
    Outcome outcome = Train(config, Kill(i, random));
    ASSERT_TRUE(outcome.was_killed || outcome.exit_code == 0) << outcome.err;
    kills += outcome.was_killed ? 1 : 0;
  }
  EXPECT_GT(kills, num_kills / 2) << "the run ended too early for this test to mean much";
  Outcome last = Train(config);
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(JsonValue(last.out, "steps_done"), std::to_string(num_steps));
  EXPECT_FALSE(JsonValue(last.out, "state_hash").empty());
  EXPECT_EQ(JsonValue(last.out, "state_hash"), JsonValue(undisturbed.out, "state_hash"));
  EXPECT_EQ(JsonValue(last.out, "weights_hash"), JsonValue(undisturbed.out, "weights_hash"));
  EXPECT_EQ(Checkpoints(directory_ + "/stormy"), Checkpoints(directory_ + "/calm"));
}

const std::string kWeightsInHost = "zero_optimization.offload_param.device=cpu";
const std::string kOptimizerInHost = "zero_optimization.offload_optimizer.device=cpu";

// 1.7 MiB of state: about half of it.
const std::string kHalfInHost = "zero_optimization.offload_optimizer.host_cache=1MiB";

// On nvme every step is committed; with anything in memory only checkpoints are.
const std::vector<Case> kCases = {
    {"all_on_nvme", {}},
    {"all_on_nvme_keeping_none", {"checkpoint.keep_last=0"}},
    {"all_on_nvme_keeping_two", {"checkpoint.keep_last=2"}},
    {"all_in_host_keeping_none", {kWeightsInHost, kOptimizerInHost, "checkpoint.keep_last=0"}},
    {"all_in_host", {kWeightsInHost, kOptimizerInHost}},
    {"all_in_host_keeping_two", {kWeightsInHost, kOptimizerInHost, "checkpoint.keep_last=2"}},
    {"deferred", {"train.clip_mode=deferred"}},
    {"deferred_in_host", {kWeightsInHost, kOptimizerInHost, "train.clip_mode=deferred"}},
    {"often_clipped", {"train.clip_mode=speculative", "train.clip_calm_steps=1"}},
    {"half_in_host", {kHalfInHost}},
    {"half_in_host_a_checkpoint_every_step", {kHalfInHost, "checkpoint.every_steps=1"}},
    {"all_in_host_a_checkpoint_every_step",
     {kWeightsInHost, kOptimizerInHost, "checkpoint.every_steps=1"}},
    {"half_in_host_keeping_two", {kHalfInHost, "checkpoint.keep_last=2"}},
    {"weights_in_host", {kWeightsInHost}},
    {"weights_in_host_keeping_two", {kWeightsInHost, "checkpoint.keep_last=2"}}};

INSTANTIATE_TEST_SUITE_P(Tiers, CrashTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::tools
