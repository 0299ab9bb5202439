// Whole runs on the cuda device, emulated or real: against the cpu device, and against themselves
// with every byte somewhere else.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"
#include "tests/tiering/device_rig.h"

namespace strata::engine {
namespace {

using testing::ElementsAreArray;

struct Ways {
  std::string device = "cuda:0";
  std::string weights = "host";
  std::string optimizer = "host";
  bool tight = false;
  int prefetch_ops = 16;
  std::string schedule = "vertical";
  std::string clip_mode = "auto";
  std::string ratio = "1";
  std::string state = "auto";
  std::string precision = "bf16";
  int steps = 3;
  std::vector<std::string> more = {};

  std::string ToString() const {
    return fmt::format(
        "{} weights={} optimizer={} tight={} prefetch_ops={} {} {} ratio={} state={} {}", device,
        weights, optimizer, tight, prefetch_ops, schedule, clip_mode, ratio, state, precision);
  }
};

// 32 MiB of the budget are the products' workspace. Heads of 64, which tensor cores work on; each
// second step or so is clipped.
RunOutcome Outcome(const Ways& run) {
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo(run.weights, run.optimizer, scratch.path());
  sets.insert(sets.end(),
              {"model.num_attention_heads=1", "model.num_key_value_heads=1", "data.seq_len=32",
               "train.gradient_clipping=0.5", "checkpoint.keep_last=0", "memory.device=48MiB",
               "train.device=" + run.device, fmt::format("train.steps={}", run.steps),
               fmt::format("zero_optimization.prefetch_ops={}", run.prefetch_ops),
               "train.schedule=" + run.schedule, "train.clip_mode=" + run.clip_mode,
               "train.precision=" + run.precision, "optimizer.state=" + run.state});
  sets.insert(sets.end(), run.more.begin(), run.more.end());
  if (run.optimizer != "device")
    sets.push_back("zero_optimization.offload_optimizer.ratio=" + run.ratio);
  if (run.tight) {
    for (std::string& set : TightBudgets(OrDie(TinyConfig(scratch.path(), sets))))
      sets.push_back(std::move(set));
  }
  return OrDie(Train(OrDie(TinyConfig(scratch.path(), sets))));
}

void ExpectSameBits(const RunOutcome& a, const RunOutcome& b) {
  EXPECT_THAT(a.losses, ElementsAreArray(b.losses));
  EXPECT_THAT(a.gradient_norms, ElementsAreArray(b.gradient_norms));
  EXPECT_EQ(a.summary.weights_hash, b.summary.weights_hash);
  EXPECT_EQ(a.summary.state_hash, b.summary.state_hash);
}

class CudaRunTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = tiering::MissingForTestDevice(); !missing.empty())
      GTEST_SKIP() << missing;
  }
};

// The same products, summed in another order and rounded to bf16 by nearest-even where the host
// rounds ties away: a step's loss differs by about what one rounding of the logits' inputs does
// (2^-9 of numbers of size 1, averaged over 256 tokens), and the differences of twenty updates of
// lr 1e-3 are smaller than that.
TEST_F(CudaRunTest, LossesOfTwentyStepsAreThoseOfTheCpuDevice) {
  for (const std::string precision : {"bf16", "fp16", "fp32"}) {
    const RunOutcome on_cpu = Outcome({.device = "cpu", .precision = precision, .steps = 20});
    const RunOutcome on_cuda = Outcome({.precision = precision, .steps = 20});
    ASSERT_EQ(on_cuda.losses.size(), 20u);
    EXPECT_LT(on_cuda.losses.back(), on_cuda.losses.front());
    const double tolerance = precision == "bf16" ? 4e-3 : precision == "fp16" ? 1e-3 : 2e-5;
    for (size_t i = 0; i < 20; ++i) {
      EXPECT_NEAR(on_cuda.losses[i], on_cpu.losses[i], tolerance) << precision << " step " << i;
      EXPECT_NEAR(on_cuda.gradient_norms[i] / on_cpu.gradient_norms[i], 1, 10 * tolerance)
          << precision << " step " << i;
    }
  }
}

TEST_F(CudaRunTest, TiersBudgetsDepthsAndSchedulesNeverChangeABit) {
  const RunOutcome expected = Outcome({});
  for (const Ways& run : std::vector<Ways>{
           {.weights = "device", .optimizer = "device"},
           {.weights = "nvme", .optimizer = "nvme", .prefetch_ops = 0},
           {.weights = "nvme", .optimizer = "nvme", .tight = true},
           {.weights = "nvme", .optimizer = "host", .schedule = "horizontal"},
           {.weights = "device", .optimizer = "nvme", .schedule = "horizontal"},
       }) {
    SCOPED_TRACE(run.ToString());
    ExpectSameBits(Outcome(run), expected);
  }
}

TEST_F(CudaRunTest, WhoUpdatesAndWhenNeverChangesABit) {
  for (const char* state : {"fp32", "split", "int8"}) {
    const RunOutcome expected = Outcome({.clip_mode = "norm_first", .state = state});
    for (const Ways& run : std::vector<Ways>{
             {.clip_mode = "deferred", .ratio = "0.5", .state = state},
             {.weights = "nvme",
             .optimizer = "nvme",
             .clip_mode = "speculative",
             .ratio = "0",
             .state = state},
             {.weights = "device", .optimizer = "device", .clip_mode = "deferred", .state = state},
         }) {
      SCOPED_TRACE(run.ToString());
      ExpectSameBits(Outcome(run), expected);
    }
  }
}

TEST_F(CudaRunTest, TilesAndWhatBackwardRecomputesNeverChangeABit) {
  const std::string parts = "model.part_size=32KiB";  // parts of a sublayer are other sums
  const RunOutcome expected = Outcome({.steps = 2, .more = {parts, "train.recompute=all"}});
  for (const Ways& run : std::vector<Ways>{
           {.steps = 2, .more = {parts, "train.recompute=none"}},
           {.weights = "nvme", .steps = 2, .more = {parts, "train.tile=1"}},
       }) {
    SCOPED_TRACE(run.more.back());
    ExpectSameBits(Outcome(run), expected);
  }
}

// Measuring works on the run's own memory, most of which the host may not touch.
TEST_F(CudaRunTest, MeasuringFindsARateForEachKindOfOpAndChangesNoBit) {
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo("host", "host", scratch.path());
  sets.insert(sets.end(), {"train.steps=2", "memory.device=48MiB", "train.device=cuda:0"});
  const RunConfig config = OrDie(TinyConfig(scratch.path(), sets));
  const auto train = [&config](bool measure) {
    return OrDie(
        TrainWith(config, {.start = SessionOptions::Start::kOverwrite, .measure = measure}));
  };
  const RunOutcome plain = train(false);
  const RunOutcome measured = train(true);
  ExpectSameBits(measured, plain);
  EXPECT_FALSE(measured.planned_with.device_shares_cores);
  for (const char* kind :
       {"embedding.forward", "attention.forward", "mlp.backward", "head", "adam"}) {
    ASSERT_TRUE(measured.planned_with.rates.contains(kind)) << kind;
    EXPECT_GT(measured.planned_with.rates.at(kind), 0) << kind;
  }
}

TEST_F(CudaRunTest, ARunThatIsResumedEndsWithTheBitsOfOneThatWasNot) {
  const auto config = [](const ScratchDirectory& scratch) {
    std::vector<std::string> sets = OffloadTo("nvme", "device", scratch.path());
    sets.insert(sets.end(), {"train.steps=4", "memory.device=48MiB", "train.device=cuda:0"});
    return OrDie(TinyConfig(scratch.path(), sets));
  };
  ScratchDirectory undisturbed, stopped;
  const RunOutcome whole = OrDie(Train(config(undisturbed)));
  OrDie(TrainAndStopAfter(config(stopped), 2));
  const RunOutcome rest = OrDie(Train(config(stopped), SessionOptions::Start::kResume));
  EXPECT_EQ(rest.first_step, 2u);
  EXPECT_EQ(rest.summary.weights_hash, whole.summary.weights_hash);
  EXPECT_EQ(rest.summary.state_hash, whole.summary.state_hash);
}

// What one device leaves the other goes on from.
TEST_F(CudaRunTest, ARunGoesOnOnTheOtherDevice) {
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo("nvme", "nvme", scratch.path());
  sets.insert(sets.end(), {"train.steps=6", "memory.device=48MiB", "train.device=cpu"});
  const RunOutcome whole = [&] {
    ScratchDirectory other;
    std::vector<std::string> same = OffloadTo("nvme", "nvme", other.path());
    same.insert(same.end(), {"train.steps=6", "train.device=cpu"});
    return OrDie(Train(OrDie(TinyConfig(other.path(), same))));
  }();
  OrDie(TrainAndStopAfter(OrDie(TinyConfig(scratch.path(), sets)), 3));
  sets.back() = "train.device=cuda:0";
  const RunOutcome rest =
      OrDie(Train(OrDie(TinyConfig(scratch.path(), sets)), SessionOptions::Start::kResume));
  EXPECT_EQ(rest.first_step, 3u);
  ASSERT_EQ(rest.losses.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(rest.losses[i], whole.losses[i + 3], 4e-3);
}

}  // namespace
}  // namespace strata::engine
