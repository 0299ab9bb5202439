#include "prefetch/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aio/base/units.h"
#include "prefetch/simulate.h"
#include "tests/fakes/training_trace.h"

namespace strata::prefetch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

StepPlan CompileOrDie(const Trace& trace, const CompileOptions& options) {
  Result<StepPlan> plan = Compile(trace, options);
  EXPECT_TRUE(plan.ok()) << plan.status().ToString();
  return *plan;
}

double BytesPerParameter(const StepPlan& plan, Lane lane,
                         const fakes::TrainingTraceOptions& options) {
  return static_cast<double>(TrafficOf(plan).bytes_by_lane[static_cast<size_t>(lane)]) /
         static_cast<double>(fakes::NumParameters(options));
}

TEST(CompileTest, WithAllStateOnNvmeAStepMovesNoMoreThanWeightsTwiceAndOptimizerOnce) {
  fakes::TrainingTraceOptions options{.num_layers = 8};
  StepPlan plan = CompileOrDie(fakes::TrainingTrace(options), {.budgets = {256_MiB, 384_MiB}});
  EXPECT_LE(BytesPerParameter(plan, Lane::kNvmeRead, options), 16);
  EXPECT_LE(BytesPerParameter(plan, Lane::kNvmeWrite, options), 14);
}

TEST(CompileTest, TheSmallestBudgetsFitAndOneMebibyteLessDoesNot) {
  Trace trace = fakes::TrainingTrace({});
  Result<Budgets> least = SmallestBudgets(trace, {});
  ASSERT_TRUE(least.ok()) << least.status().ToString();
  EXPECT_TRUE(Compile(trace, {.budgets = *least}).ok());
  Budgets less_device = *least, less_host = *least;
  less_device.device_bytes -= 1_MiB;
  less_host.host_bytes -= 1_MiB;
  Status device = Compile(trace, {.budgets = less_device}).status();
  Status host = Compile(trace, {.budgets = less_host}).status();
  EXPECT_EQ(device.code(), Code::kResourceExhausted);
  EXPECT_EQ(host.code(), Code::kResourceExhausted);
  EXPECT_THAT(device.message(), AllOf(HasSubstr("device memory"), HasSubstr("budget is")));
  EXPECT_THAT(host.message(), AllOf(HasSubstr("host memory"), HasSubstr("budget is")));
}

TEST(CompileBestTest, TheChosenDepthIsTheFastestOfThoseItTries) {
  Trace trace = fakes::TrainingTrace({.num_layers = 6});
  Budgets budgets{128_MiB, 256_MiB};
  Hardware hardware;
  Result<StepPlan> best = CompileBest(trace, budgets, hardware);
  ASSERT_TRUE(best.ok()) << best.status().ToString();
  for (uint32_t depth : {0u, 1u, 4u, 24u}) {
    StepPlan plan = CompileOrDie(trace, {.budgets = budgets, .prefetch_ops = depth});
    EXPECT_LE(Simulate(*best, hardware).step_s, Simulate(plan, hardware).step_s) << depth;
  }
}

TEST(CompileBestTest, ABudgetThatIsTooSmallIsRefusedWithOneThatFits) {
  Trace trace = fakes::TrainingTrace({});
  Status status = CompileBest(trace, {4_MiB, 1_GiB}, Hardware()).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("device memory: op "), HasSubstr("4 MiB"),
                                      HasSubstr("smallest budgets that fit are device 54 MiB")));
}

}  // namespace
}  // namespace strata::prefetch
