// Whole runs on several ranks, which are threads here: what ZeRO promises about bits, losses,
// memory and bytes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include "tests/engine/comm/thread_world.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

struct Job {
  uint32_t world = 1;
  int stage = 3;
  std::string weights = "nvme";
  std::string optimizer = "nvme";
  int steps = 3;
  std::vector<std::string> more = {};
};

std::string Describe(const Job& job) {
  return fmt::format("{} ranks, stage {}, weights {}, optimizer {}", job.world, job.stage,
                     job.weights, job.optimizer);
}

// Eight sequences a step whatever the world, one at a time.
RunConfig ConfigOf(const std::string& directory, const Job& job) {
  std::vector<std::string> sets = OffloadTo(job.weights, job.optimizer, directory);
  sets.insert(sets.end(),
              {fmt::format("train.world_size={}", job.world), "train.train_batch_size=8",
               fmt::format("train.gradient_accumulation_steps={}", 8 / job.world),
               fmt::format("train.steps={}", job.steps),
               fmt::format("zero_optimization.stage={}", job.stage), "checkpoint.keep_last=0"});
  sets.insert(sets.end(), job.more.begin(), job.more.end());
  return OrDie(TinyConfig(directory, sets));
}

// What every rank saw.
std::vector<Result<RunOutcome>> TrainRanks(
    const ThreadWorld& world, const RunConfig& config,
    SessionOptions::Start start = SessionOptions::Start::kNew, uint64_t stop_after = UINT64_MAX) {
  std::vector<Result<RunOutcome>> outcomes(world.machines.size(), Internal("did not run"));
  RunRanks(world, [&](Communicator& communicator) {
    SessionOptions options;
    options.start = start;
    options.communicator = &communicator;
    outcomes[communicator.rank()] = TrainWith(config, options, stop_after);
  });
  return outcomes;
}

// Of rank 0, after a look at that all ranks agree.
RunOutcome Outcome(const Job& job, const std::string& directory, SessionOptions::Start start,
                   uint64_t stop_after = UINT64_MAX) {
  std::vector<Result<RunOutcome>> outcomes =
      TrainRanks(MachinesOf({job.world}), ConfigOf(directory, job), start, stop_after);
  for (Result<RunOutcome>& outcome : outcomes) {
    EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
    if (!outcome.ok()) return {};
    EXPECT_THAT(outcome->losses, ElementsAreArray(outcomes[0]->losses));
    EXPECT_EQ(outcome->summary.state_hash, outcomes[0]->summary.state_hash);
  }
  return std::move(outcomes[0]).value();
}

RunOutcome Outcome(const Job& job) {
  ScratchDirectory scratch;
  return Outcome(job, scratch.path(), SessionOptions::Start::kNew);
}

void ExpectSameBits(const RunOutcome& a, const RunOutcome& b) {
  EXPECT_THAT(a.losses, ElementsAreArray(b.losses));
  EXPECT_THAT(a.gradient_norms, ElementsAreArray(b.gradient_norms));
  EXPECT_EQ(a.summary.weights_hash, b.summary.weights_hash);
  EXPECT_EQ(a.summary.state_hash, b.summary.state_hash);
}

class RanksTest : public testing::TestWithParam<uint32_t> {};

// Stages and offloads say who keeps what where, not what is computed.
TEST_P(RanksTest, AllStagesAndOffloadsGiveTheSameBits) {
  RunOutcome expected = Outcome({.world = GetParam()});
  ASSERT_EQ(expected.losses.size(), 3u);
  EXPECT_LT(expected.losses.back(), expected.losses.front());
  for (int stage : {0, 1, 2, 3}) {
    for (const char* optimizer : {"device", "host", "nvme"}) {
      if (stage == 0 && std::string(optimizer) != "device") continue;  // nothing is offloaded
      Job job{GetParam(), stage, stage == 3 ? optimizer : "device", optimizer};
      SCOPED_TRACE(Describe(job));
      ExpectSameBits(Outcome(job), expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, RanksTest, testing::Values(1u, 2u, 4u),
                         [](const auto& test) { return fmt::format("of_{}", test.param); });

}  // namespace
}  // namespace strata::engine
