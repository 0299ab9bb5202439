// What the formats of the optimizer's state move, keep and compute, in whole runs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "engine/train/export_run.h"
#include "prefetch/compile.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kResume = SessionOptions::Start::kResume;

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct BytesPerParameter {
  double read = 0;
  double written = 0;
};

// Of weights and optimizer state, as planned: 26 million parameters, updates inside backward,
// within `budgets`.
BytesPerParameter Planned(const std::string& format, const std::string& weights, int accumulation,
                          double times_smallest) {
  ScratchDirectory scratch;
  std::vector<std::string> sets =
      OffloadTo(weights, "nvme", scratch.path()) +
      std::vector<std::string>{"model.hidden_size=512",
                               "model.intermediate_size=1408",
                               "model.num_hidden_layers=8",
                               "train.gradient_clipping=0",
                               "train.train_batch_size=" + std::to_string(accumulation),
                               "train.gradient_accumulation_steps=" + std::to_string(accumulation),
                               "optimizer.state=" + format};
  RunConfig roomy = OrDie(TinyConfig(scratch.path(), sets));
  const PlannedRun prepared = OrDie(PrepareRun(roomy));
  const prefetch::Budgets least = OrDie(prefetch::SmallestBudgets(prepared.program.trace, {}));
  const auto times = [&](uint64_t bytes) {
    return static_cast<uint64_t>(static_cast<double>(bytes) * times_smallest);
  };
  sets.push_back(fmt::format("memory.device=\"{}B\"", times(least.device_bytes)));
  sets.push_back(fmt::format("memory.host=\"{}B\"", times(least.host_bytes)));
  const PlannedRun run = OrDie(PlanRun(OrDie(TinyConfig(scratch.path(), sets)), {}));
  const prefetch::Traffic traffic = prefetch::TrafficOf(run.plan);
  const auto per_parameter = [&](const std::map<std::string, uint64_t>& bytes_by_purpose) {
    uint64_t bytes = 0;
    for (const auto& [purpose, of_purpose] : bytes_by_purpose) {
      if (purpose == "weights" || purpose == "optimizer") bytes += of_purpose;
    }
    return static_cast<double>(bytes) / static_cast<double>(run.layout.num_shard_elements());
  };
  return {per_parameter(traffic.nvme_read_by_purpose),
          per_parameter(traffic.nvme_written_by_purpose)};
}

// Blocks are read and written in whole pages: of 26 million parameters half a percent more.
constexpr double kPages = 1.005;

// Weights for forward and for backward, whose copy the update takes too; remainder, m and v. Where
// budgets are tighter still, copies are given up before their use and read again.
TEST(StateFormatTest, WithEverythingOnNvmeSplitReadsFourteenBytesPerParameterAndWritesTwelve) {
  for (const auto& [accumulation, times_smallest] :
       {std::pair(1, 1.5), std::pair(1, 2.5), std::pair(8, 2.5)}) {
    SCOPED_TRACE(
        fmt::format("{} micro-batches, {} x the smallest budgets", accumulation, times_smallest));
    const BytesPerParameter split = Planned("split", "nvme", accumulation, times_smallest);
    EXPECT_LE(split.read, 14 * kPages);
    EXPECT_LE(split.written, 12 * kPages);
    const BytesPerParameter fp32 = Planned("fp32", "nvme", accumulation, times_smallest);
    EXPECT_LT(split.read, fp32.read);
    EXPECT_LT(split.written, fp32.written);
  }
}

TEST(StateFormatTest, WithWeightsInHostMemorySplitMovesTenBytesEachWayAndInt8Four) {
  const BytesPerParameter split = Planned("split", "host", 1, 1.5);
  EXPECT_LE(split.read, 10 * kPages);
  EXPECT_LE(split.written, 10 * kPages);
  const BytesPerParameter int8 = Planned("int8", "host", 1, 1.5);
  EXPECT_LE(int8.read, (4 + 2.0 / kScaledElements) * kPages);
  EXPECT_LE(int8.written, (4 + 2.0 / kScaledElements) * kPages);
}

std::string FileAt(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The master weights that a run of this format ends with, as a Hugging Face file.
std::string ExportedMasters(const std::string& format) {
  ScratchDirectory scratch;
  OrDie(Train(OrDie(TinyConfig(
      scratch.path(),
      OffloadTo("nvme", scratch.path()) + std::vector<std::string>{"optimizer.state=" + format}))));
  ExportRunOptions options;
  options.run_dir = scratch.path() + "/run";
  options.to = scratch.path() + "/exported";
  options.dtype = DType::kF32;
  OrDie(ExportRun(options));
  return FileAt(options.to + "/model.safetensors");
}

TEST(StateFormatTest, TheMastersOfSplitAreExportedAsThoseOfFp32) {
  const std::string expected = ExportedMasters("fp32");
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(ExportedMasters("split"), expected);
}

TEST(StateFormatTest, ResumingInAnotherFormatIsRefusedAndBothAreNamed) {
  ScratchDirectory scratch;
  const std::vector<std::string> sets = OffloadTo("nvme", scratch.path());
  OrDie(TrainAndStopAfter(OrDie(TinyConfig(scratch.path(), sets)), 1));
  for (const char* other : {"fp32", "int8"}) {
    const std::vector<std::string> changed = {std::string("optimizer.state=") + other};
    Result<RunOutcome> resumed = Train(OrDie(TinyConfig(scratch.path(), sets + changed)), kResume);
    EXPECT_EQ(resumed.status().code(), Code::kFailedPrecondition);
    EXPECT_THAT(resumed.status().message(),
                AllOf(HasSubstr("[optimizer] state = split"), HasSubstr(other)));
  }
  OrDie(Train(OrDie(TinyConfig(scratch.path(), sets)), kResume));
}

TEST(StateFormatTest, ARunOfInt8IsResumedWithTheSameBits) {
  const auto config = [](const ScratchDirectory& scratch) {
    return OrDie(TinyConfig(scratch.path(), OffloadTo("host", scratch.path()) +
                                                std::vector<std::string>{"optimizer.state=int8"}));
  };
  ScratchDirectory undisturbed, stopped;
  const RunOutcome expected = OrDie(Train(config(undisturbed)));
  OrDie(TrainAndStopAfter(config(stopped), 2));
  EXPECT_EQ(OrDie(Train(config(stopped), kResume)).summary.state_hash, expected.summary.state_hash);
}

std::vector<double> Losses(const std::string& format, int seed) {
  ScratchDirectory scratch;
  const std::vector<std::string> sets = {"optimizer.state=" + format,
                                         "train.seed=" + std::to_string(seed), "train.steps=120"};
  return OrDie(Train(OrDie(TinyConfig(scratch.path(), sets)))).losses;
}
double MeanOfLast(const std::vector<double>& losses, int count) {
  return std::accumulate(losses.end() - count, losses.end(), 0.0) / count;
}

// The loss falls from 5.7 to 0.7. What is compared is its mean over the last 20 of 120 steps, where
// rounding has had time to add up. Measured: 0.2 to 0.6 % above fp32 for these seeds.
TEST(StateFormatTest, TheLossOfInt8StaysWithinTwoPercentOfThatOfFp32) {
  for (const int seed : {7, 8, 9}) {
    const double fp32 = MeanOfLast(Losses("fp32", seed), 20);
    EXPECT_LT(fp32, 0.8);
    EXPECT_NEAR(MeanOfLast(Losses("int8", seed), 20), fp32, 0.02 * fp32) << seed;
  }
}

}  // namespace
}  // namespace strata::engine
