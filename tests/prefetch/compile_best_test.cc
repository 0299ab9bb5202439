#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"
#include "prefetch/verify.h"
#include "tests/fakes/training_trace.h"
#include "tests/prefetch/random_trace.h"

namespace strata::prefetch {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CompileBestTest, NoDepthAloneIsFasterThanTheChosenPlanByMoreThanTheModelsError) {
  Trace trace = fakes::TrainingTrace({.num_layers = 6});
  Budgets budgets{128_MiB, 256_MiB};
  Hardware hardware;
  Result<StepPlan> best = CompileBest(trace, budgets, hardware);
  ASSERT_TRUE(best.ok()) << best.status().ToString();
  EXPECT_TRUE(Verify(*best).ok());
  for (uint32_t depth : {0, 1, 4, 24}) {
    Result<StepPlan> plan = Compile(trace, {.budgets = budgets, .prefetch_ops = depth});
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    EXPECT_LE(Simulate(*best, hardware).step_s, 1.02 * Simulate(*plan, hardware).step_s) << depth;
  }
}

TEST(CompileBestTest, OfPlansOfAboutTheSameTimeOneFetchesAhead) {
  // On paper it makes no difference here: the updates of a step keep the cores busy at any depth.
  for (bool clip : {false, true}) {
    Trace trace = fakes::TrainingTrace({.num_layers = 12, .clip = clip});
    Result<StepPlan> best = CompileBest(trace, {128_MiB, clip ? 512_MiB : 256_MiB}, Hardware());
    ASSERT_TRUE(best.ok()) << best.status().ToString();
    EXPECT_GE(best->prefetch_ops, 2u);
  }
}

TEST(CompileBestTest, ABudgetThatIsTooSmallIsRefused) {
  Trace trace = fakes::TrainingTrace({});
  Status status = CompileBest(trace, {4_MiB, 1_GiB}, Hardware()).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  // The largest backward: 16 MiB of weights, 32 of gradients, two of 1 and a workspace of 4.
  EXPECT_THAT(status.message(), AllOf(HasSubstr("device memory: op "), HasSubstr("4 MiB")));
  EXPECT_EQ(SmallestBudgets(trace, {4_MiB, 1_GiB})->device_bytes, 54_MiB);
}

void ExpectLeast(const Trace& trace, const Budgets& least) {
  for (uint32_t depth : {0, 8})
    EXPECT_TRUE(Compile(trace, {.budgets = least, .prefetch_ops = depth}).ok());
  Budgets less_device = least, less_host = least;
  less_device.device_bytes -= 1_MiB;
  less_host.host_bytes -= 1_MiB;
  Status device = Compile(trace, {.budgets = less_device}).status();
  Status host = Compile(trace, {.budgets = less_host}).status();
  EXPECT_THAT(device.message(), HasSubstr("device memory"));
  EXPECT_THAT(host.message(), HasSubstr("host memory"));
}

TEST(SmallestBudgetsTest, FitAndOneMebibyteLessDoesNot) {
  for (bool clip : {false, true}) {
    Trace trace = fakes::TrainingTrace({.clip = clip});
    Result<Budgets> least = SmallestBudgets(trace, {});
    ASSERT_TRUE(least.ok()) << least.status().ToString();
    ExpectLeast(trace, *least);
  }
}

TEST(SmallestBudgetsTest, TakeTheDeviceAsLargeAsItIs) {
  Trace trace = fakes::TrainingTrace({});
  Result<Budgets> least = SmallestBudgets(trace, {.device_bytes = 512_MiB});
  ASSERT_TRUE(least.ok()) << least.status().ToString();
  EXPECT_EQ(least->device_bytes, 512_MiB);
  EXPECT_TRUE(Compile(trace, {.budgets = *least}).ok());
}

TEST(SmallestBudgetsTest, OfRandomTracesCompileAtAnyDepth) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    Trace trace = RandomTrace(seed);
    Result<Budgets> least = SmallestBudgets(trace, {});
    ASSERT_TRUE(least.ok()) << least.status().ToString();
    for (uint32_t depth : {0, 5})
      EXPECT_TRUE(Compile(trace, {.budgets = *least, .prefetch_ops = depth}).ok()) << seed;
  }
}

}  // namespace
}  // namespace strata::prefetch
