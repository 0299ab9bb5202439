// Checkpoints that are written behind the next step: what they hold, what the step waits for, and
// what happens when a write fails.
#include "engine/train/write_behind.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "tests/engine/train/training_run.h"
#include "tests/fakes/fault_engine.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using aio::IoDirection;
using fakes::FaultKind;
using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr auto kResume = SessionOptions::Start::kResume;
constexpr uint64_t kSteps = 5;

// Where weights and optimizer state are at home, all or some of it in memory.
struct Homes {
  std::string name;
  std::string weights;
  std::string optimizer;
  std::vector<std::string> more = {};

  friend void PrintTo(const Homes& homes, std::ostream* out) { *out << homes.name; }
};

class WriteBehindTest : public testing::TestWithParam<Homes> {
 protected:
  // By default a checkpoint is of the step that just ended; with deferred updates, of the one
  // before.
  static RunConfig Config(const std::string& directory, uint64_t every_steps, uint64_t keep_last,
                          const std::string& clip_mode = "norm_first") {
    std::vector<std::string> sets = OffloadTo(GetParam().weights, GetParam().optimizer, directory);
    sets.insert(sets.end(), GetParam().more.begin(), GetParam().more.end());
    if (GetParam().name != "unclipped_host") sets.push_back("train.clip_mode=" + clip_mode);
    sets.insert(sets.end(), {fmt::format("train.steps={}", kSteps),
                             fmt::format("checkpoint.every_steps={}", every_steps),
                             fmt::format("checkpoint.keep_last={}", keep_last)});
    return OrDie(TinyConfig(directory, sets));
  }
  // Every write reaches the file late: only then are its bytes looked at.
  SessionOptions WithLateWrites(SessionOptions::Start start = SessionOptions::Start::kNew) {
    return WithFaults({{IoDirection::kWrite, {FaultKind::kReordered}, 1.0}}, start);
  }
  SessionOptions WithFaults(const std::vector<fakes::FaultChance>& chances,
                            SessionOptions::Start start = SessionOptions::Start::kNew) {
    SessionOptions options{.start = start};
    options.create_engine =
        [this,
         chances](const aio::IoEngineOptions& real) -> Result<std::unique_ptr<aio::IoEngine>> {
      STRATA_ASSIGN_OR_RETURN(std::unique_ptr<aio::IoEngine> engine, aio::IoEngine::Create(real));
      auto faulty = std::make_unique<fakes::FaultEngine>(
          std::move(engine),
          fakes::FaultOptions{.delay = std::chrono::milliseconds(5), .chances = chances});
      engine_ = faulty.get();
      return std::unique_ptr<aio::IoEngine>(std::move(faulty));
    };
    return options;
  }
  RunOutcome Undisturbed() {
    ScratchDirectory scratch;
    return OrDie(Train(Config(scratch.path(), 0, 0)));
  }

  ScratchDirectory scratch_;
  fakes::FaultEngine* engine_ = nullptr;
};

TEST_P(WriteBehindTest, ChangesNoBitWhateverTheDriveDoes) {
  RunOutcome expected = Undisturbed();
  for (const char* clip_mode : {"norm_first", "deferred"}) {
    ScratchDirectory scratch;
    RunOutcome outcome =
        OrDie(TrainWith(Config(scratch.path(), 1, 2, clip_mode), WithLateWrites()));
    EXPECT_THAT(outcome.losses, ElementsAreArray(expected.losses)) << clip_mode;
    EXPECT_EQ(outcome.summary.state_hash, expected.summary.state_hash) << clip_mode;
  }
}

// A copy of the directory, taken while the step after is over and its own checkpoint has begun, is
// what a crash then leaves.
TEST_P(WriteBehindTest, HoldsTheStateOfItsStepAndNothingOfTheNext) {
  RunOutcome expected = Undisturbed();
  for (uint64_t crash_after : {2u, 3u, 4u}) {
    ScratchDirectory run, crashed;
    OrDie(TrainWith(Config(run.path(), 1, 1), WithLateWrites(), UINT64_MAX, [&](uint64_t step) {
      if (step == crash_after) fs::copy(run.path(), crashed.path(), fs::copy_options::recursive);
    }));
    for (const char* name : {"config.toml", "stores.json"})  // they name the other place
      fs::remove(crashed.path() + "/run/" + name);
    RunOutcome rest = OrDie(Train(Config(crashed.path(), 1, 1), kResume));
    EXPECT_EQ(rest.first_step, crash_after - 1);
    EXPECT_EQ(rest.losses[0], expected.losses[crash_after - 1]);
    EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
  }
}

TEST_P(WriteBehindTest, OfAStepThatIsTheLastOrIsStoppedAtIsWholeWhenTheRunEnds) {
  RunOutcome expected = Undisturbed();
  RunConfig config = Config(scratch_.path(), 2, 1);
  OrDie(TrainWith(config, WithLateWrites(), 2));
  RunOutcome middle = OrDie(TrainWith(config, WithLateWrites(kResume), 1));
  EXPECT_EQ(middle.first_step, 2u);
  RunOutcome rest = OrDie(TrainWith(config, WithLateWrites(kResume)));
  EXPECT_EQ(rest.first_step, 3u);
  RunOutcome again = OrDie(Train(config, kResume));
  EXPECT_EQ(again.first_step, kSteps);
  EXPECT_EQ(again.summary.state_hash, expected.summary.state_hash);
}

TEST_P(WriteBehindTest, ThatFailsEndsTheRunAndTheCheckpointBeforeIsThere) {
  RunOutcome expected = Undisturbed();
  RunConfig config = Config(scratch_.path(), 2, 1);
  Status status = TrainWith(config, WithFaults({}), UINT64_MAX, [&](uint64_t step) {
                    // Step 4's checkpoint has begun: one of its last writes, or of the step's own.
                    if (step == 4) engine_->plan().SetChances({{IoDirection::kWrite, {}, 1.0}});
                  }).status();
  EXPECT_EQ(status.code(), Code::kIoError) << status.ToString();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("Input/output error"), HasSubstr("heckpoint")));
  RunOutcome rest = OrDie(Train(config, kResume));
  EXPECT_EQ(rest.first_step, 2u);
  EXPECT_EQ(rest.summary.state_hash, expected.summary.state_hash);
}

TEST_P(WriteBehindTest, IsFinishedWhenTheStepThatItIsWrittenBesideFails) {
  RunConfig config = Config(scratch_.path(), 1, 1);
  config.optimizer.lr = 10;  // every step makes the weights -9 times what they were
  config.optimizer.weight_decay = 1;
  config.train.steps = 200;
  uint64_t last_step = 0;
  Status status = TrainWith(config, WithLateWrites(), UINT64_MAX, [&](uint64_t step) {
                    last_step = step;
                  }).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("not finite"));
  ASSERT_GT(last_step, 1u);
  RunOutcome rest = OrDie(TrainAndStopAfter(config, 0, kResume));
  EXPECT_EQ(rest.first_step, last_step);
}

TEST_P(WriteBehindTest, IsCountedInTheStepThatItIsWrittenBeside) {
  std::vector<uint64_t> bytes;
  RunConfig config = Config(scratch_.path(), 2, 1);
  PlannedRun run = OrDie(PlanRun(config, {}));
  uint64_t in_memory = 0;
  for (const StateBlock& block : run.layout.blocks)
    if (block.home != tiering::Tier::kNvme) in_memory += RoundUp(block.size_bytes(), 4_KiB);
  RunOutcome outcome = OrDie(TrainWith(config, WithLateWrites()));
  const std::vector<uint64_t>& written = outcome.checkpoint_bytes_written;
  ASSERT_EQ(written.size(), 5u);
  EXPECT_EQ(written[0] + written[1], 0u);
  EXPECT_GT(written[2], 0u);
  // A last write may end when its step has.
  EXPECT_EQ(written[2] + written[3], in_memory);
}

const std::vector<Homes> kHomes = {
    {"host", "host", "host"},
    {"device", "device", "device"},
    {"weights_on_device", "device", "nvme"},
    {"weights_in_host", "host", "nvme"},
    {"optimizer_in_host", "nvme", "host"},
    {"half_in_host", "nvme", "nvme", {"zero_optimization.offload_optimizer.host_cache=1MiB"}},
    {"fp32_host", "host", "host", {"train.precision=fp32"}},
    {"unclipped_host", "host", "host", {"train.gradient_clipping=0"}}};

INSTANTIATE_TEST_SUITE_P(Tiers, WriteBehindTest, testing::ValuesIn(kHomes),
                         [](const auto& test) { return test.param.name; });

// Passes writes on to a commit and notes their order.
class NotedCommit final : public tiering::PendingCommit {
 public:
  explicit NotedCommit(std::unique_ptr<tiering::PendingCommit> commit)
      : commit_(std::move(commit)) {}
  tiering::StoreTicket StartWrite(tiering::StoreBlock block, std::span<const std::byte> from,
                                  aio::IoDone done) override {
    blocks.push_back(static_cast<uint32_t>(block));
    return commit_->StartWrite(block, from, std::move(done));
  }
  Result<uint64_t> Finish() override { return commit_->Finish(); }

  std::vector<uint32_t> blocks;

 private:
  std::unique_ptr<tiering::PendingCommit> commit_;
};

TEST(WriteBehindOrder, IsThatInWhichTheNextStepOverwrites) {
  ScratchDirectory scratch;
  PlannedRun run =
      OrDie(PlanRun(OrDie(TinyConfig(scratch.path(), OffloadTo("host", scratch.path()))), {}));
  std::unique_ptr<tiering::Device> device =
      OrDie(tiering::CreateCpuDevice(run.config.memory.device_bytes));
  tiering::Arena host = OrDie(tiering::Arena::Create("host", run.config.memory.host_bytes));
  auto engine = OrDie(aio::IoEngine::Create({}));
  auto store = OrDie(tiering::BlockStore::Create(
      {.directories = {scratch.path()}, .run_id = "order"}, run.store_blocks, engine.get()));
  StateAccess access({&run.layout, &run.plan, device.get(), &host, store.get()});
  auto behind = OrDie(WriteBehind::Create(run.layout, run.program.trace, access));
  NotedCommit commit(OrDie(store->BeginCommit("", false)));
  behind->Start(&commit);
  EXPECT_TRUE(behind->Finish().ok());

  std::vector<uint32_t> expected;
  for (const prefetch::TraceOp& op : run.program.trace.ops)
    for (const prefetch::Access& access_of_op : op.accesses) {
      auto block = static_cast<uint32_t>(access_of_op.block);
      bool is_state = block < run.layout.blocks.size();
      bool is_new = std::find(expected.begin(), expected.end(), block) == expected.end();
      if (is_state && is_new && access_of_op.mode != prefetch::AccessMode::kRead)
        expected.push_back(block);
    }
  EXPECT_EQ(expected.size(), run.layout.blocks.size());
  EXPECT_THAT(commit.blocks, ElementsAreArray(expected));
  OrDie(commit.Finish());
}

}  // namespace
}  // namespace strata::engine
