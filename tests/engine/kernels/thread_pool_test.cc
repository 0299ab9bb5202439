#include "engine/kernels/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/fakes/no_threads.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ThreadPoolTest : public testing::TestWithParam<uint32_t> {
 protected:
  ThreadPool pool_ = ThreadPool::Create(GetParam()).value();
};

TEST_P(ThreadPoolTest, EveryTileRunsOnceInEachOfManyJobs) {
  for (size_t job = 0; job < 3000; ++job) {
    std::vector<int> runs(job % 37, 0);
    pool_.ParallelFor(runs.size(), [&](size_t i) { ++runs[i]; });
    ASSERT_EQ(runs, std::vector<int>(job % 37, 1));
  }
}

TEST_P(ThreadPoolTest, WhatTilesWroteIsVisibleAfterwards) {
  std::vector<size_t> squares(10'000);
  pool_.ParallelFor(squares.size(), [&](size_t i) { squares[i] = i * i; });
  for (size_t i = 0; i < squares.size(); ++i) ASSERT_EQ(squares[i], i * i);
}

TEST_P(ThreadPoolTest, AThreadIndexBelongsToOneThreadAtATime) {
  std::vector<std::atomic<int>> inside(pool_.num_threads());
  std::atomic<bool> shared{false};
  pool_.ParallelFor(5000, [&](size_t, uint32_t thread) {
    if (inside[thread].fetch_add(1) != 0) shared = true;
    inside[thread].fetch_sub(1);
  });
  EXPECT_FALSE(shared);
}

TEST_P(ThreadPoolTest, CallersMayTakeTurns) {
  size_t sum = 0;
  for (int turn = 0; turn < 50; ++turn) {
    std::jthread caller([&] {
      std::vector<size_t> values(100);
      pool_.ParallelFor(values.size(), [&](size_t i) { values[i] = i; });
      sum += std::accumulate(values.begin(), values.end(), size_t{0});
    });
  }
  EXPECT_EQ(sum, 50u * 4950u);
}

TEST(ThreadPoolLimits, AThreadThatCannotBeStartedIsAnErrorThatSaysWhichSettingToLower) {
  const fakes::NoThreads none;
  const Status status = ThreadPool::Create(2).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("[train] threads"), HasSubstr("ulimit -u")));
}

TEST(ThreadPoolLimits, OneThreadIsTheCallersAndNeedsNoOther) {
  const fakes::NoThreads none;
  EXPECT_TRUE(ThreadPool::Create(1).ok());
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace strata::engine
