// A run that dies in any moment: while its store is made, in a checkpoint that is written behind a
// step, between what is begun and what is finished, between any two calls of a commit, of pruning
// and of a restart. It resumes, and ends with the bits of one that never died.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "tests/engine/train/mortal_job.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;

const std::string kTight = "tight";  // no setting: the smallest budgets

struct Case {
  std::string name;
  std::string home;  // of weights and optimizer state
  std::vector<std::string> sets = {};

  friend void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }
};

class RunDeathTest : public testing::TestWithParam<Case> {
 protected:
  static RunConfig Config(const std::string& directory) {
    std::vector<std::string> sets = OffloadTo(GetParam().home, directory);
    sets.insert(sets.end(), {"train.steps=5", "checkpoint.every_steps=2", "checkpoint.keep_last=1",
                             "zero_optimization.prefetch_ops=4", "aio.backend=posix"});
    for (const std::string& set : GetParam().sets)
      if (set != kTight) sets.push_back(set);
    if (!GetParam().sets.empty() && GetParam().sets.back() == kTight)
      for (std::string& set : TightBudgets(OrDie(TinyConfig(directory, sets)))) sets.push_back(set);
    return OrDie(TinyConfig(directory, sets));
  }

  static Life Live(const std::string& directory, uint64_t num_moments) {
    return LiveFor(num_moments, [&] {
      const SessionOptions options{.start = SessionOptions::Start::kResume,
                                   .create_engine = CreateMortalEngine};
      return OrDie(TrainWith(Config(directory), options)).summary.state_hash;
    });
  }

  static std::set<std::string> Checkpoints(const std::string& directory) {
    std::set<std::string> names;
    std::error_code none_there;
    for (const auto& entry : fs::directory_iterator(directory + "/run/checkpoints", none_there))
      names.insert(entry.path().filename());
    return names;
  }

  void SetUp() override {
    undisturbed_ = Live(calm_.path(), kForever);
    ASSERT_TRUE(undisturbed_.ended_well);
    ASSERT_GT(undisturbed_.num_moments, 100u);  // or it proves little
    RecordProperty("moments", static_cast<int>(undisturbed_.num_moments));
  }

  ScratchDirectory calm_;
  Life undisturbed_;
};

TEST_P(RunDeathTest, InAnyMomentIsResumedToTheSameBits) {
  uint64_t stride = std::max<uint64_t>(1, undisturbed_.num_moments / NumDeaths());
  for (uint64_t moment = stride / 2; moment < undisturbed_.num_moments; moment += stride) {
    SCOPED_TRACE(moment);
    ScratchDirectory scratch;
    EXPECT_FALSE(Live(scratch.path(), moment).ended_well);
    Life rest = Live(scratch.path(), kForever);
    EXPECT_TRUE(rest.ended_well);
    EXPECT_EQ(rest.state_hash, undisturbed_.state_hash);
    EXPECT_EQ(Checkpoints(scratch.path()), Checkpoints(calm_.path()));
  }
}

// Dies in restarts, too: in the first moments, when pins and checkpoints are put right.
TEST_P(RunDeathTest, AgainAndAgainIsResumedToTheSameBits) {
  ScratchDirectory scratch;
  Life life;
  uint64_t step = std::max<uint64_t>(1, undisturbed_.num_moments / (4 * NumDeaths()));
  for (uint64_t moments = step; !life.ended_well; moments += step) {
    ASSERT_LT(moments, 4 * undisturbed_.num_moments);
    life = Live(scratch.path(), moments);
  }
  EXPECT_EQ(life.state_hash, undisturbed_.state_hash);
  EXPECT_EQ(Checkpoints(scratch.path()), Checkpoints(calm_.path()));
}

const std::vector<Case> kCases = {
    {"nvme", "nvme"},
    {"host", "host"},
    {"device", "device"},
    {"half_in_host", "nvme", {"zero_optimization.offload_optimizer.host_cache=1MiB"}},
    {"half_in_host_every_step",
     "nvme",
     {"zero_optimization.offload_optimizer.host_cache=1MiB", "checkpoint.every_steps=1",
      "checkpoint.keep_last=2"}},
    // Speculates, rolls back, redoes deferred, flushes and speculates again, twice.
    {"speculative_and_clipped",
     "nvme",
     {"train.steps=10", "train.clip_mode=speculative", "train.gradient_clipping=2.4",
      "train.clip_calm_steps=2"}},
    // Gradients wait on nvme.
    {"speculative_and_clipped_in_little_memory",
     "nvme",
     {"train.steps=10", "train.clip_mode=speculative", "train.gradient_clipping=2.4",
      "train.clip_calm_steps=2", kTight}},
    {"deferred", "nvme", {"train.clip_mode=deferred"}},
    {"deferred_host", "host", {"train.clip_mode=deferred"}},
};

INSTANTIATE_TEST_SUITE_P(Cases, RunDeathTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::engine
