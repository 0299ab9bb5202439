// Ranks that stand still: a drive that never answers, an op that never ends. Ranks are threads
// here; tests/tools/launch has processes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/engine/comm/thread_world.h"
#include "tests/engine/train/training_run.h"
#include "tests/fakes/fault_engine.h"

namespace strata::engine {
namespace {

using aio::IoDirection;
using testing::HasSubstr;
using testing::StartsWith;

// Seconds. On a machine that does much else, an operation of a rank that works may take a second,
// and several under a sanitizer.
constexpr int kLongerThanAnyOperation = 60;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kTimeout = 5;
#else
constexpr int kTimeout = 1;
#endif

struct Stall {
  std::string name;
  std::vector<std::string> sets;
  IoDirection direction;
  std::string what;  // is said of the rank that stands still

  friend void PrintTo(const Stall& stall, std::ostream* out) { *out << stall.name; }
};

class RanksStallTest : public testing::TestWithParam<Stall> {
 protected:
  RunConfig Config(const std::string& directory, int stall_timeout_s) const {
    std::vector<std::string> sets = OffloadTo("nvme", directory);
    sets.insert(sets.end(), {"train.world_size=2", "train.train_batch_size=8", "train.steps=4",
                             "train.gradient_accumulation_steps=4",
                             fmt::format("train.stall_timeout_s={}", stall_timeout_s),
                             "train.gradient_clipping=0.0", "zero_optimization.stage=3",
                             "model.num_hidden_layers=6", "checkpoint.keep_last=0"});
    sets.insert(sets.end(), GetParam().sets.begin(), GetParam().sets.end());
    // There is no room to keep anything, so that every step reads.
    for (const std::string& set : TightBudgets(OrDie(TinyConfig(directory, sets))))
      sets.push_back(set);
    return OrDie(TinyConfig(directory, sets));
  }
  // Of both ranks; `engine` is the second's.
  std::vector<Result<RunOutcome>> Train(const RunConfig& config, SessionOptions options = {}) {
    std::vector<Result<RunOutcome>> outcomes(2, Internal("did not run"));
    RunRanks(MachinesOf({2}), [&](Communicator& communicator) {
      SessionOptions own = options;
      own.communicator = &communicator;
      if (communicator.rank() == 0) return void(outcomes[0] = TrainWith(config, own));
      own.create_engine = [this](const aio::IoEngineOptions& real) { return WithFaults(real); };
      own.on_stall = [this](const Status& why) {
        stalled_ = why;
        hung_->LetGo();  // a process would end here; this one destroys its engine meanwhile
      };
      outcomes[1] = TrainWith(config, own, UINT64_MAX, [this](uint64_t step) { Spoil(step); });
    });
    return outcomes;
  }
  Result<std::unique_ptr<aio::IoEngine>> WithFaults(const aio::IoEngineOptions& real) {
    STRATA_ASSIGN_OR_RETURN(std::unique_ptr<aio::IoEngine> engine, aio::IoEngine::Create(real));
    auto faulty = std::make_unique<fakes::FaultEngine>(std::move(engine));
    engine_ = faulty.get();
    hung_ = engine_->hung();
    return std::unique_ptr<aio::IoEngine>(std::move(faulty));
  }
  void Spoil(uint64_t step) {
    if (step == 2 && is_spoilt_)
      engine_->plan().SpoilRequest(GetParam().direction, {fakes::FaultKind::kHung}, 2);
  }

  bool is_spoilt_ = false;
  fakes::FaultEngine* engine_ = nullptr;
  std::shared_ptr<fakes::HungRequests> hung_;
  Status stalled_;
};

// The drive works all the time, only this one transfer is never done.
TEST_P(RanksStallTest, EndsAllRanksSaysWhatItStandsStillAtAndLosesNothing) {
  ScratchDirectory undisturbed;
  const std::vector<Result<RunOutcome>> expected =
      Train(Config(undisturbed.path(), kLongerThanAnyOperation));
  ASSERT_TRUE(expected[0].ok()) << expected[0].status().message();
  EXPECT_TRUE(stalled_.ok()) << stalled_.message();

  ScratchDirectory scratch;
  is_spoilt_ = true;
  const std::vector<Result<RunOutcome>> stalled = Train(Config(scratch.path(), kTimeout));
  EXPECT_EQ(stalled_.code(), Code::kDeadlineExceeded);
  EXPECT_THAT(stalled_.message(),
              StartsWith(fmt::format("no progress for {} s: step 3: lane ", kTimeout)));
  EXPECT_THAT(stalled_.message(), HasSubstr(GetParam().what));
  ASSERT_FALSE(stalled[0].ok());
  EXPECT_THAT(stalled[0].status().message(), HasSubstr("rank 1"));
  EXPECT_THAT(stalled[0].status().message(), HasSubstr(stalled_.message()));

  is_spoilt_ = false;
  const std::vector<Result<RunOutcome>> rest = Train(
      Config(scratch.path(), kLongerThanAnyOperation), {.start = SessionOptions::Start::kResume});
  ASSERT_TRUE(rest[0].ok()) << rest[0].status().message();
  EXPECT_EQ(rest[0]->summary.state_hash, expected[0]->summary.state_hash);
}

const Stall kStalls[] = {
    {"a_read", {}, IoDirection::kRead, "lane nvme-read: read "},
    {"a_write", {}, IoDirection::kWrite, "lane nvme-write: write "},
    // The update must not overwrite what the checkpoint before it has not written yet.
    {"a_checkpoint_that_an_op_waits_for",
     {"zero_optimization.offload_param.device=cpu",
      "zero_optimization.offload_optimizer.device=cpu", "checkpoint.every_steps=1",
      "checkpoint.keep_last=1"},
     IoDirection::kWrite,
     "lane cpu: run update "}};

INSTANTIATE_TEST_SUITE_P(Of, RanksStallTest, testing::ValuesIn(kStalls),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace strata::engine
