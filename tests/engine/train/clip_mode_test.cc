// When updates happen never changes a value: speculative, deferred and norm-first runs end with the
// same bits, whether clips are rare, frequent or permanent.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

// Of the tiny model, whose norms are between 2 and 3.1: clips always, at the first steps and once
// later, never.
const std::vector<std::string> kThresholds = {"0.01", "2.4", "1000"};

struct Scene {
  std::string name;
  std::string weights = "nvme";
  std::string optimizer = "nvme";
  std::string schedule = "vertical";
  bool tight = false;
  int threads = 1;
  int prefetch_ops = 16;
  std::string precision = "bf16";
  bool tied = false;
  int layers = 2;
  bool mixed = false;  // kept gradients are at home partly in memory, partly on nvme

  friend void PrintTo(const Scene& scene, std::ostream* out) { *out << scene.name; }
};

RunConfig ConfigOf(const std::string& directory, const Scene& scene, const std::string& clipping,
                   const std::string& mode) {
  std::vector<std::string> sets = OffloadTo(scene.weights, scene.optimizer, directory);
  sets.insert(sets.end(), {"train.steps=10", "train.gradient_accumulation_steps=2",
                           "checkpoint.keep_last=0", "train.clip_calm_steps=2",
                           "train.gradient_clipping=" + clipping, "train.clip_mode=" + mode,
                           "train.schedule=" + scene.schedule, "train.precision=" + scene.precision,
                           fmt::format("model.tie_word_embeddings={}", scene.tied),
                           fmt::format("model.num_hidden_layers={}", scene.layers),
                           fmt::format("train.threads={}", scene.threads),
                           fmt::format("zero_optimization.prefetch_ops={}", scene.prefetch_ops)});
  if (scene.tight)
    for (std::string& set : TightBudgets(OrDie(TinyConfig(directory, sets)))) sets.push_back(set);
  if (scene.mixed)
    for (std::string& set : BudgetsForMixedGradients(directory, sets)) sets.push_back(set);
  return OrDie(TinyConfig(directory, sets));
}

RunOutcome Outcome(const Scene& scene, const std::string& clipping, const std::string& mode) {
  ScratchDirectory scratch;
  return OrDie(Train(ConfigOf(scratch.path(), scene, clipping, mode)));
}

class ClipModeTest : public testing::TestWithParam<Scene> {};

TEST_P(ClipModeTest, NeverChangesABit) {
  const Scene& scene = GetParam();
  const bool all_on_nvme = scene.weights == "nvme" && scene.optimizer == "nvme";
  for (const std::string& clipping : kThresholds) {
    Scene plain{
        .name = {}, .precision = scene.precision, .tied = scene.tied, .layers = scene.layers};
    RunOutcome expected = Outcome(plain, clipping, "norm_first");
    for (const char* mode : {"norm_first", "deferred", "speculative", "auto"}) {
      if (mode == std::string("speculative") && !all_on_nvme) continue;
      SCOPED_TRACE(fmt::format("clipping={} {}", clipping, mode));
      RunOutcome outcome = Outcome(scene, clipping, mode);
      EXPECT_THAT(outcome.losses, ElementsAreArray(expected.losses));
      EXPECT_THAT(outcome.gradient_norms, ElementsAreArray(expected.gradient_norms));
      EXPECT_EQ(outcome.summary.weights_hash, expected.summary.weights_hash);
      EXPECT_EQ(outcome.summary.state_hash, expected.summary.state_hash);
      EXPECT_EQ(outcome.summary.counts.clipped, expected.summary.counts.clipped);
    }
  }
}

const std::vector<Scene> kSetups = {
    {.name = "nvme"},
    {.name = "nvme_tight", .tight = true, .threads = 2},
    {.name = "nvme_one_at_a_time", .prefetch_ops = 0},
    {.name = "nvme_horizontal", .schedule = "horizontal"},
    {.name = "nvme_horizontal_tight_tied",
     .schedule = "horizontal",
     .tight = true,
     .prefetch_ops = 3,
     .tied = true},
    {.name = "nvme_fp32", .precision = "fp32"},
    {.name = "nvme_fp32_horizontal_tight",
     .schedule = "horizontal",
     .tight = true,
     .threads = 2,
     .precision = "fp32"},
    {.name = "host", .weights = "host", .optimizer = "host", .threads = 2},
    {.name = "device", .weights = "device", .optimizer = "device"},
    {.name = "device_fp32_tied",
     .weights = "device",
     .optimizer = "device",
     .precision = "fp32",
     .tied = true},
    {.name = "weights_in_host_tight", .weights = "host", .tight = true},
    {.name = "optimizer_in_host_tight", .optimizer = "host", .tight = true, .prefetch_ops = 2}};

INSTANTIATE_TEST_SUITE_P(Setups, ClipModeTest, testing::ValuesIn(kSetups),
                         [](const auto& test) { return test.param.name; });

TEST(ClipMode, GradientsKeptInSeveralTiersNeverChangeABit) {
  const Scene plain{.name = {}, .layers = 12};
  const Scene mixed{.name = {}, .threads = 2, .layers = 12, .mixed = true};
  for (const std::string& clipping : kThresholds) {
    RunOutcome expected = Outcome(plain, clipping, "norm_first");
    for (const char* mode : {"speculative", "deferred"}) {
      SCOPED_TRACE(fmt::format("clipping={} {}", clipping, mode));
      RunOutcome outcome = Outcome(mixed, clipping, mode);
      EXPECT_THAT(outcome.losses, ElementsAreArray(expected.losses));
      EXPECT_EQ(outcome.summary.state_hash, expected.summary.state_hash);
      if (clipping != kThresholds[1]) continue;
      EXPECT_GT(outcome.summary.counts.clipped, 0u);
      EXPECT_LT(outcome.summary.counts.clipped, 10u);
      EXPECT_THAT(outcome.kinds, testing::Contains(StepKind::kDeferred));
    }
  }
}

// The comparisons above prove something only when all that can happen did.
TEST(ClipModeItself, ClipsSometimesRollsBackDefersAndGoesBackToSpeculation) {
  RunOutcome always = Outcome({}, kThresholds[0], "speculative");
  EXPECT_EQ(always.summary.counts.clipped, 10u);
  EXPECT_EQ(always.summary.counts.rolled_back, 1u);  // then it no longer guesses
  EXPECT_EQ(always.summary.counts.flushed, 1u);      // at the end

  RunOutcome sometimes = Outcome({}, kThresholds[1], "speculative");
  EXPECT_EQ(sometimes.summary.counts.clipped, 3u);
  EXPECT_EQ(sometimes.summary.counts.rolled_back, 2u);
  EXPECT_EQ(sometimes.summary.counts.flushed, 2u);  // to speculate again, and at the end
  constexpr auto kGuess = StepKind::kSpeculative, kDefer = StepKind::kDeferred;
  EXPECT_THAT(sometimes.kinds, testing::ElementsAre(kGuess, kDefer, kDefer, kDefer, kGuess, kGuess,
                                                    kGuess, kGuess, kDefer, kDefer));

  RunOutcome never = Outcome({}, kThresholds[2], "speculative");
  EXPECT_EQ(never.summary.counts.clipped + never.summary.counts.rolled_back, 0u);
  EXPECT_THAT(never.kinds, testing::Each(StepKind::kSpeculative));

  RunOutcome deferred = Outcome({}, kThresholds[2], "deferred");
  EXPECT_EQ(deferred.kinds.front(), StepKind::kKeep);
  EXPECT_EQ(deferred.kinds.back(), StepKind::kDeferred);
}

TEST(ClipModeItself, SpeculationNeedsAllStateOnNvmeAndSaysWhatToSet) {
  ScratchDirectory scratch;
  Result<PlannedRun> run =
      PlanRun(ConfigOf(scratch.path(), {.name = {}, .optimizer = "host"}, "1", "speculative"), {});
  ASSERT_FALSE(run.ok());
  EXPECT_THAT(run.status().message(), HasSubstr("offload_optimizer.device"));
  run = PlanRun(ConfigOf(scratch.path(), {.name = {}, .optimizer = "host"}, "1", "auto"), {});
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_NE(run->program.kind, StepKind::kSpeculative);
}

std::vector<uint64_t> StepsInMetrics(const std::string& directory) {
  std::vector<uint64_t> steps;
  std::ifstream metrics(directory + "/run/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);)
    steps.push_back(nlohmann::json::parse(line)["step"].get<uint64_t>());
  return steps;
}

TEST(ClipModeItself, AStoppedRunHasAppliedAllAndResumesWithTheSameBits) {
  for (const char* mode : {"speculative", "deferred"}) {
    RunOutcome expected = Outcome({}, kThresholds[1], "norm_first");
    for (uint64_t stop_after : {1u, 2u, 4u, 8u, 9u}) {
      SCOPED_TRACE(fmt::format("{} stopped after {}", mode, stop_after));
      ScratchDirectory scratch;
      RunConfig config = ConfigOf(scratch.path(), {}, kThresholds[1], mode);
      OrDie(TrainAndStopAfter(config, stop_after));
      RunOutcome rest = OrDie(Train(config, SessionOptions::Start::kResume));
      EXPECT_EQ(rest.first_step, stop_after);
      EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
      EXPECT_THAT(StepsInMetrics(scratch.path()),
                  testing::ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    }
  }
}

// Every step makes the weights -9 times what they were.
TEST(ClipModeItself, AGradientThatIsNotFiniteLeavesTheStateOfTheStepsBefore) {
  for (const auto& [clipping, mode] :
       {std::pair("1e6", "speculative"), std::pair("1", "speculative"), std::pair("1", "deferred"),
        std::pair("1", "norm_first")}) {
    SCOPED_TRACE(fmt::format("clipping={} {}", clipping, mode));
    ScratchDirectory scratch, calm;
    auto config_of = [&](const std::string& directory, const char* with_mode, uint64_t steps) {
      RunConfig config = ConfigOf(directory, {}, clipping, with_mode);
      config.optimizer.lr = 10;
      config.optimizer.weight_decay = 1;
      config.train.steps = steps;
      return config;
    };
    uint64_t last_step = 0;
    Status status =
        TrainWith(config_of(scratch.path(), mode, 200), {}, UINT64_MAX, [&](uint64_t step) {
          last_step = step;
        }).status();
    EXPECT_THAT(status.message(), HasSubstr("not finite"));
    EXPECT_THAT(status.message(), HasSubstr(fmt::format("step {}", last_step + 1)));
    ASSERT_GT(last_step, 1u);
    RunOutcome rest =
        OrDie(Train(config_of(scratch.path(), mode, last_step), SessionOptions::Start::kResume));
    EXPECT_EQ(rest.first_step, last_step);
    RunOutcome expected = OrDie(Train(config_of(calm.path(), "norm_first", last_step)));
    EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
  }
}

}  // namespace
}  // namespace strata::engine
