// What only the emulated machine shows of whole runs: how memory is copied, and failures.
#include <gmock/gmock.h>

#include "tests/engine/train/training_run.h"
#include "tests/fakes/cuda/emulator.h"

namespace strata::engine {
namespace {

RunConfig Config(const std::string& directory) {
  std::vector<std::string> sets = OffloadTo("nvme", "nvme", directory);
  sets.insert(sets.end(),
              {"train.device=cuda:0", "train.steps=2", "data.seq_len=16", "memory.device=48MiB"});
  return OrDie(TinyConfig(directory, sets));
}

class CudaRunFaultsTest : public testing::Test {
 protected:
  void SetUp() override { fakes::cuda::Reset(); }
  void TearDown() override { fakes::cuda::Reset(); }
};

TEST_F(CudaRunFaultsTest, EveryCopyIsOfPinnedMemoryAndStreamsWaitForEachOtherOnTheDevice) {
  const fakes::cuda::Counters before = fakes::cuda::counters();
  ScratchDirectory scratch;
  OrDie(Train(Config(scratch.path())));
  const fakes::cuda::Counters after = fakes::cuda::counters();
  EXPECT_GT(after.copies, before.copies);
  EXPECT_EQ(after.copies_of_pageable_memory, before.copies_of_pageable_memory);
  EXPECT_GT(after.waits_between_streams, before.waits_between_streams);
  // And all is given back.
  EXPECT_EQ(after.bytes_allocated, 0u);
  EXPECT_EQ(after.streams, 0u);
  EXPECT_EQ(after.events, 0u);
  EXPECT_EQ(after.registered_ranges, 0u);
}

TEST_F(CudaRunFaultsTest, AKernelThatFailsEndsTheRunWithWhatCudaSaysAndTheRunGoesOnLater) {
  ScratchDirectory scratch;
  const RunConfig config = Config(scratch.path());
  fakes::cuda::FailKernel(40, cudaErrorIllegalAddress);
  const Status status = Train(config).status();
  EXPECT_EQ(status.code(), Code::kInternal) << status.message();
  EXPECT_THAT(status.message(), testing::HasSubstr("an illegal memory access"));
  fakes::cuda::Reset();
  const RunOutcome rest = OrDie(Train(config, SessionOptions::Start::kResume));
  EXPECT_EQ(rest.losses.size(), 2u);
}

TEST_F(CudaRunFaultsTest, ACopyThatIsRefusedEndsTheRunWithTheCallAndItsStream) {
  ScratchDirectory scratch;
  fakes::cuda::FailNext("cudaMemcpyAsync", cudaErrorInvalidValue);
  const Status status = Train(Config(scratch.path())).status();
  EXPECT_THAT(status.message(), testing::AllOf(testing::HasSubstr("cuda:0: stream '"),
                                               testing::HasSubstr("cudaMemcpyAsync of "),
                                               testing::HasSubstr("cudaErrorInvalidValue")));
}

TEST_F(CudaRunFaultsTest, HostMemoryThatCannotBePinnedIsAnErrorThatSaysSo) {
  ScratchDirectory scratch;
  fakes::cuda::FailNext("cudaHostRegister", cudaErrorMemoryAllocation);
  const Status status = Train(Config(scratch.path())).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), testing::HasSubstr("cuda:0: pinning 16 MiB of host memory"));
}

TEST_F(CudaRunFaultsTest, ABudgetWithoutRoomForTheWorkspacesDoesNotPlan) {
  ScratchDirectory scratch;
  RunConfig config = Config(scratch.path());
  config.memory.device_bytes = 16 << 20;
  const Status status = Train(config).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), testing::HasSubstr("the smallest budgets that fit"));
}

TEST_F(CudaRunFaultsTest, ABudgetThatTheGpuHasNotFailsAtStartWithWhatItHas) {
  ScratchDirectory scratch;
  const RunConfig config = Config(scratch.path());
  fakes::cuda::SetMemory(1 << 20);
  const Status status = Train(config).status();
  fakes::cuda::SetMemory(size_t{1} << 30);
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.message();
  EXPECT_THAT(status.message(), testing::HasSubstr("[memory] device"));
}

}  // namespace
}  // namespace strata::engine
