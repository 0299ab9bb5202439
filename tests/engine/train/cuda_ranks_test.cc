// Whole runs on several ranks with a GPU each, all emulated: the ranks are threads, NCCL a
// stand-in.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "engine/comm/communicator.h"
#include "tests/engine/train/rank_jobs.h"
#include "tests/fakes/cuda/emulator.h"
#include "tests/fakes/nccl/fake_nccl.h"
#include "tiering/cuda_device.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;
namespace cuda = fakes::cuda;
namespace nccl = fakes::nccl;

class CudaRanksTest : public testing::Test {
 protected:
  CudaRanksTest() {
    cuda::Reset();
    cuda::SetDevices(2);
    nccl::Reset();
  }
  ~CudaRanksTest() override {
    cuda::Reset();
    cuda::SetDevices(1);
    EXPECT_EQ(nccl::counters().communicators, 0);
  }
  // Two ranks; 32 MiB of each budget are the products' workspace.
  static Job On(const std::string& device, int stage, const std::string& weights,
                const std::string& optimizer) {
    return {
        .world = 2,
        .stage = stage,
        .weights = weights,
        .optimizer = optimizer,
        .more = {"memory.device=48MiB", "train.gradient_clipping=0.5", "train.device=" + device}};
  }
};

TEST_F(CudaRanksTest, StagesAndTiersNeverChangeABit) {
  const RunOutcome expected = Outcome(On("cuda", 3, "host", "host"));
  EXPECT_GT(nccl::counters().collectives, 0);
  for (const Job& job : {On("cuda", 3, "nvme", "nvme"), On("cuda", 3, "device", "device"),
                         On("cuda", 2, "device", "host"), On("cuda", 1, "device", "nvme"),
                         On("cuda", 0, "device", "device")}) {
    SCOPED_TRACE(Describe(job));
    const RunOutcome outcome = Outcome(job);
    EXPECT_THAT(outcome.losses, ElementsAreArray(expected.losses));
    EXPECT_EQ(outcome.summary.state_hash, expected.summary.state_hash);
  }
}

// As far as one GPU's are those of the cpu device (cuda_run_test.cc says why): what is between the
// ranks adds nothing.
TEST_F(CudaRanksTest, LossesAreThoseOfTheCpuDevice) {
  const RunOutcome on_cpu = Outcome(On("cpu", 3, "host", "host"));
  EXPECT_EQ(nccl::counters().collectives, 0);
  const RunOutcome on_cuda = Outcome(On("cuda", 3, "host", "host"));
  ASSERT_EQ(on_cuda.losses.size(), on_cpu.losses.size());
  for (size_t i = 0; i < on_cpu.losses.size(); ++i)
    EXPECT_NEAR(on_cuda.losses[i], on_cpu.losses[i], 4e-3) << "step " << i;
}

// A GPU with room for the budget and CUDA's reserve, but not for what collectives take beside them:
// found out before the first step, and the budget that is named is one that does.
TEST_F(CudaRanksTest, ABudgetThatLeavesNoRoomForCollectivesIsRefusedWithOneThatDoes) {
  nccl::TakeMemory(100_MiB);
  const uint64_t needed = 48_MiB + tiering::kCudaReserveBytes + kGpuStagingBytes + 100_MiB;
  ScratchDirectory scratch;
  Job job = On("cuda", 3, "host", "host");
  cuda::SetMemory(needed - 4_MiB);
  for (const Result<RunOutcome>& outcome :
       TrainRanks(MachinesOf({2}), ConfigOf(scratch.path(), job))) {
    EXPECT_EQ(outcome.status().code(), Code::kResourceExhausted);
    EXPECT_THAT(outcome.status().message(),
                AllOf(HasSubstr("beside 164 MiB that collectives have of the GPU"),
                      HasSubstr("48 MiB of device memory cannot be had"),
                      HasSubstr("set [memory] device = \"44MiB\" or less")));
  }
  job.more[0] = "memory.device=44MiB";
  for (const Result<RunOutcome>& outcome :
       TrainRanks(MachinesOf({2}), ConfigOf(scratch.path(), job)))
    EXPECT_TRUE(outcome.ok()) << outcome.status().ToString();
}

TEST_F(CudaRanksTest, WhatNcclLosesEndsAllRanksWithTheCause) {
  ScratchDirectory scratch;
  Job job = On("cuda", 3, "host", "host");
  job.steps = 1000;
  std::jthread cable([] {
    while (nccl::counters().collectives < 50) std::this_thread::yield();
    nccl::FailLater(1, NcclResult::kRemoteError);
  });
  for (const Result<RunOutcome>& outcome :
       TrainRanks(MachinesOf({2}), ConfigOf(scratch.path(), job))) {
    EXPECT_THAT(outcome.status().message(),
                AllOf(HasSubstr(" on the GPU: rank 1: "),
                      HasSubstr("NCCL: remote process exited or there was a network error")));
  }
}

}  // namespace
}  // namespace strata::engine
