// Whole runs on drives that misbehave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"
#include "tests/fakes/fault_engine.h"

namespace strata::engine {
namespace {

using aio::IoDirection;
using fakes::FaultKind;
using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr auto kResume = SessionOptions::Start::kResume;

class DriveFaultsTest : public testing::Test {
 protected:
  // Nothing is kept, so that every step reads what the one before wrote.
  static RunConfig Config(const std::string& directory) {
    std::vector<std::string> sets = OffloadTo("nvme", directory);
    for (const std::string& set : TightBudgets(OrDie(TinyConfig(directory, sets))))
      sets.push_back(set);
    return OrDie(TinyConfig(directory, sets));
  }
  // The run's engine with faults, which engine_ then is.
  SessionOptions WithFaults(const std::vector<fakes::FaultChance>& chances = {}) {
    SessionOptions options;
    options.create_engine =
        [this,
         chances](const aio::IoEngineOptions& real) -> Result<std::unique_ptr<aio::IoEngine>> {
      STRATA_ASSIGN_OR_RETURN(std::unique_ptr<aio::IoEngine> engine, aio::IoEngine::Create(real));
      auto faulty = std::make_unique<fakes::FaultEngine>(
          std::move(engine), fakes::FaultOptions{.block_size_bytes = 16384, .chances = chances});
      engine_ = faulty.get();
      return std::unique_ptr<aio::IoEngine>(std::move(faulty));
    };
    return options;
  }

  ScratchDirectory scratch_;
  ScratchDirectory undisturbed_;
  RunOutcome expected_ = OrDie(Train(Config(undisturbed_.path())));
  fakes::FaultEngine* engine_ = nullptr;
};

TEST_F(DriveFaultsTest, LateReorderedAndShortTransfersNeverChangeABit) {
  std::vector<fakes::FaultChance> chances;
  for (IoDirection direction : {IoDirection::kRead, IoDirection::kWrite}) {
    for (FaultKind kind : {FaultKind::kDelayed, FaultKind::kReordered, FaultKind::kShort})
      chances.push_back({direction, {kind}, 0.1});
    chances.push_back({direction, {.error_number = EINTR}, 0.1});
  }
  uint64_t num_injected = 0;
  RunOutcome outcome =
      OrDie(TrainWith(Config(scratch_.path()), WithFaults(chances), UINT64_MAX,
                      [&](uint64_t) { num_injected = engine_->plan().num_injected(); }));
  EXPECT_THAT(outcome.losses, ElementsAreArray(expected_.losses));
  EXPECT_EQ(outcome.summary.state_hash, expected_.summary.state_hash);
  EXPECT_GT(num_injected, 100u);
}

TEST_F(DriveFaultsTest, ADeviceErrorIsReportedAndTheRunGoesOnFromItsLastCommit) {
  for (bool is_read : {true, false}) {
    ScratchDirectory directory;
    RunConfig config = Config(directory.path());
    Status status = TrainWith(config, WithFaults(), UINT64_MAX, [&](uint64_t step) {
                      if (step < 2) return;
                      is_read ? engine_->SpoilRead({}, 5) : engine_->SpoilWrite({}, 5);
                    }).status();
    EXPECT_EQ(status.code(), Code::kIoError);
    EXPECT_THAT(status.message(),
                AllOf(HasSubstr(directory.path() + "/nvme"), HasSubstr("offset_bytes="),
                      HasSubstr("block '"), HasSubstr(": Input/output error")));
    RunOutcome rest = OrDie(Train(config, kResume));
    EXPECT_GE(rest.first_step, 1u);
    EXPECT_EQ(rest.losses.back(), expected_.losses.back());
    EXPECT_EQ(rest.summary.state_hash, expected_.summary.state_hash);
  }
}

// What the drive claimed to have written is missed when it is read again: by this run, or by the
// one that resumes it. Nobody trains on with other bytes.
TEST_F(DriveFaultsTest, ALostWriteIsReportedAndNeverTrainedOn) {
  RunConfig config = Config(scratch_.path());
  Status status = TrainWith(config, WithFaults(), UINT64_MAX, [&](uint64_t step) {
                    if (step == 1) engine_->SpoilWrite({FaultKind::kLost}, 5);
                  }).status();
  EXPECT_EQ(status.code(), Code::kDataLoss) << status.ToString();
  EXPECT_THAT(status.message(), AllOf(HasSubstr("block '"), HasSubstr("checksum")));
  Result<RunOutcome> rest = Train(config, kResume);
  if (rest.ok()) {
    EXPECT_EQ(rest->summary.state_hash, expected_.summary.state_hash);
  } else {
    EXPECT_EQ(rest.status().code(), Code::kDataLoss) << rest.status().ToString();
  }
}

TEST_F(DriveFaultsTest, ADriveThatIsFullIsReportedAndTheRunGoesOnFromItsLastCommit) {
  RunConfig config = Config(scratch_.path());
  Status status = TrainWith(config, WithFaults(), UINT64_MAX, [&](uint64_t step) {
                    if (step == 2) engine_->SpoilWrite({.error_number = ENOSPC}, 3);
                  }).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("No space left on device"));
  RunOutcome rest = OrDie(Train(config, kResume));
  EXPECT_EQ(rest.summary.state_hash, expected_.summary.state_hash);
}

// In every kind of step there is: speculative, rolled back, deferred, flushed.
TEST_F(DriveFaultsTest, ADeviceErrorInSpeculationOrInItsRedoLosesNothing) {
  auto config = [](const std::string& directory) {
    RunConfig clipping = Config(directory);
    clipping.train.steps = 10;
    clipping.train.clip_mode = ClipMode::kSpeculative;
    clipping.train.gradient_clipping = 2.4;
    clipping.train.clip_calm_steps = 2;
    return clipping;
  };
  ScratchDirectory calm;
  RunOutcome expected = OrDie(Train(config(calm.path())));
  ASSERT_EQ(expected.summary.counts.rolled_back, 2u);
  ASSERT_EQ(expected.summary.counts.flushed, 2u);
  for (uint64_t after = 1; after < 10; ++after) {
    ScratchDirectory scratch;
    Status status = TrainWith(config(scratch.path()), WithFaults(), UINT64_MAX, [&](uint64_t step) {
                      if (step == after && after % 2 == 0) engine_->SpoilRead({}, 3);
                      if (step == after && after % 2 == 1) engine_->SpoilWrite({}, 3);
                    }).status();
    EXPECT_EQ(status.code(), Code::kIoError) << "after " << after << ": " << status.ToString();
    EXPECT_THAT(status.message(), HasSubstr("Input/output error"));
    RunOutcome rest = OrDie(Train(config(scratch.path()), kResume));
    EXPECT_GE(rest.first_step + 2, after);
    EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash) << "after " << after;
  }
}

}  // namespace
}  // namespace strata::engine
