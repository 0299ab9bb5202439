#include "tests/engine/train/rank_jobs.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <utility>

namespace strata::engine {

using testing::ElementsAreArray;

std::string Describe(const Job& job) {
  return fmt::format("{} ranks, stage {}, weights {}, optimizer {}", job.world, job.stage,
                     job.weights, job.optimizer);
}

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

std::vector<Result<RunOutcome>> TrainRanks(const ThreadWorld& world, const RunConfig& config,
                                           SessionOptions::Start start, uint64_t stop_after) {
  std::vector<Result<RunOutcome>> outcomes(world.machines.size(), Internal("did not run"));
  RunRanks(world, [&](Communicator& communicator) {
    SessionOptions options;
    options.start = start;
    options.communicator = &communicator;
    outcomes[communicator.rank()] = TrainWith(config, options, stop_after);
  });
  return outcomes;
}

RunOutcome Outcome(const Job& job, const std::string& directory, SessionOptions::Start start,
                   uint64_t stop_after) {
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

}  // namespace strata::engine
