// Where a byte lives never changes its value (DESIGN.md §2): whole runs over tiers, budgets, I/O
// backends, threads and prefetch depths, compared bit for bit.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "prefetch/compile.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using testing::ElementsAreArray;

template <typename T>
T OrDie(Result<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.status().ToString();
  return std::move(result).value();
}

struct Setting {
  std::string precision = "bf16";
  std::string clipping = "1.0";
  std::string tier = "host";
  bool tight = false;
  std::string backend = "io_uring";
  int threads = 1;
  int prefetch_ops = 16;
};

// The smallest budgets that this configuration plans with: nothing stays that could be evicted.
std::vector<std::string> TightBudgets(const RunConfig& config) {
  PlannedRun run = OrDie(PrepareRun(config));
  prefetch::Budgets least = OrDie(prefetch::SmallestBudgets(run.program.trace, {}));
  return {fmt::format("memory.device=\"{}B\"", least.device_bytes),
          fmt::format("memory.host=\"{}B\"", least.host_bytes)};
}

RunOutcome Outcome(const Setting& setting) {
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo(setting.tier, scratch.path());
  sets.push_back("train.precision=" + setting.precision);
  sets.push_back("train.gradient_clipping=" + setting.clipping);
  sets.push_back("aio.backend=" + setting.backend);
  sets.push_back(fmt::format("train.threads={}", setting.threads));
  sets.push_back(fmt::format("zero_optimization.prefetch_ops={}", setting.prefetch_ops));
  if (setting.tight) {
    for (std::string& set : TightBudgets(OrDie(TinyConfig(scratch.path(), sets)))) {
      sets.push_back(std::move(set));
    }
  }
  return OrDie(Train(OrDie(TinyConfig(scratch.path(), sets))));
}

void ExpectSameBits(const RunOutcome& a, const RunOutcome& b) {
  EXPECT_THAT(a.losses, ElementsAreArray(b.losses));
  EXPECT_THAT(a.gradient_norms, ElementsAreArray(b.gradient_norms));
  EXPECT_EQ(a.summary.weights_hash, b.summary.weights_hash);
  EXPECT_EQ(a.summary.state_hash, b.summary.state_hash);
}

class Exactness : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(Exactness, TierBudgetBackendThreadsAndDepthNeverChangeABit) {
  auto [precision, clipping] = GetParam();
  Setting reference{.precision = precision, .clipping = clipping};
  RunOutcome expected = Outcome(reference);
  ASSERT_EQ(expected.losses.size(), 4u);
  EXPECT_LT(expected.losses.back(), expected.losses.front());

  for (const char* place : {"device", "host", "nvme", "tight"}) {
    for (const char* backend : {"io_uring", "posix"}) {
      for (int threads : {1, 2}) {
        for (int depth : {0, 16}) {
          Setting setting = reference;
          setting.tight = std::string(place) == "tight";
          setting.tier = setting.tight ? "nvme" : place;
          setting.backend = backend;
          setting.threads = threads;
          setting.prefetch_ops = depth;
          SCOPED_TRACE(
              fmt::format("{} {} threads={} prefetch_ops={}", place, backend, threads, depth));
          ExpectSameBits(Outcome(setting), expected);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, Exactness,
                         testing::Values(std::tuple("bf16", "0.5"), std::tuple("bf16", "0"),
                                         std::tuple("fp32", "0.5")),
                         [](const auto& test) {
                           std::string name = std::get<0>(test.param);
                           return name +
                                  (std::get<1>(test.param) == "0" ? "_unclipped" : "_clipped");
                         });

// The three parameter sets above must not agree with each other, or the comparison proves nothing.
TEST(ExactnessItself, TellsDifferentRunsApart) {
  RunOutcome bf16 = Outcome({});
  RunOutcome fp32 = Outcome({.precision = "fp32"});
  RunOutcome unclipped = Outcome({.clipping = "0"});
  EXPECT_NE(bf16.summary.weights_hash, fp32.summary.weights_hash);
  EXPECT_NE(bf16.summary.weights_hash, unclipped.summary.weights_hash);
}

}  // namespace
}  // namespace strata::engine
