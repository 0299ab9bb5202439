// The collectives of GPUs, over ranks that are threads with an emulated GPU each and a stand-in for
// NCCL: what is ours of them. nccl_on_gpus_test.cc does it with what is NVIDIA's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "tests/engine/comm/gpu_payloads.h"
#include "tests/engine/comm/thread_world.h"
#include "tests/fakes/cuda/emulator.h"
#include "tests/fakes/nccl/fake_nccl.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;
namespace cuda = fakes::cuda;
namespace nccl = fakes::nccl;

class NcclTest : public testing::TestWithParam<std::vector<uint32_t>> {
 protected:
  NcclTest() {
    cuda::Reset();
    cuda::SetDevices(static_cast<int>(world_.machines.size()));
    nccl::Reset();
  }
  ~NcclTest() override {
    cuda::SetDevices(1);
    cuda::SetThreadOrder(cuda::ThreadOrder::kAscending);
    EXPECT_EQ(nccl::counters().communicators, 0);
  }

  // What is added up does not fit in at once. A kernel's threads take their time in the emulator.
  static constexpr uint64_t kStagingBytes = 50'000;
  static constexpr uint64_t kMostNumbers = 30'001;

  void RunOnGpus(const std::function<void(Communicator&, Payloads&)>& body) {
    RunRanks(world_, [&](Communicator& communicator) {
      const int device = static_cast<int>(communicator.rank());
      const Status used = communicator.UseGpu(
          {.device = device, .staging_bytes = kStagingBytes, .nccl = &nccl::Functions()});
      ASSERT_TRUE(used.ok()) << used.ToString();
      GpuPayloads payloads(communicator.rank());
      body(communicator, payloads);
    });
  }

  ThreadWorld world_ = MachinesOf(GetParam());
};

std::string ShapeName(const testing::TestParamInfo<std::vector<uint32_t>>& info) {
  std::string name;
  for (const uint32_t num : info.param) name += (name.empty() ? "" : "and") + std::to_string(num);
  return name;
}

INSTANTIATE_TEST_SUITE_P(RanksOfMachines, NcclTest,
                         testing::Values(std::vector<uint32_t>{1}, std::vector<uint32_t>{2},
                                         std::vector<uint32_t>{4}, std::vector<uint32_t>{2, 1}),
                         ShapeName);

TEST_P(NcclTest, GivesTheBitsOfAPlainLoopInRankOrder) {
  RunOnGpus([](Communicator& communicator, Payloads& payloads) {
    CheckEveryCollectiveOn(communicator, payloads, kMostNumbers);
  });
  EXPECT_EQ(nccl::counters().aborts, 0);
  EXPECT_EQ(nccl::counters().destroyed, static_cast<int>(world_.machines.size()));
}

TEST_P(NcclTest, GivesThemInAnyOrderOfThreadsWhileHostMemoryIsExchangedOnAnotherChannel) {
  for (const auto order : {cuda::ThreadOrder::kDescending, cuda::ThreadOrder::kShuffled}) {
    cuda::SetThreadOrder(order, 5);
    RunOnGpus([&](Communicator& communicator, Payloads& payloads) {
      std::jthread cpu_lane([&] {
        for (int i = 0; i < 100; ++i) {
          double number = communicator.rank();
          EXPECT_TRUE(
              communicator.channel(ChannelId::kCpuLane).AllReduceSum(std::span(&number, 1)).ok());
        }
      });
      CheckRandomSequenceOn(communicator, ChannelId::kCommLane, payloads, 3, 20);
    });
  }
}

TEST_P(NcclTest, CountsAsManyBytesAsTheoryNeeds) {
  RunOnGpus([](Communicator& communicator, Payloads& payloads) {
    CheckTrafficOn(communicator, payloads, 100'000);
  });
}

TEST_P(NcclTest, IsSaidToBeInUse) {
  RunOnGpus([&](Communicator& communicator, Payloads&) {
    EXPECT_THAT(communicator.description(),
                HasSubstr("nccl: NCCL 2.28.9 on GPUs, " + std::to_string(world_.machines.size()) +
                          " ranks on "));
    EXPECT_EQ(communicator.UseGpu({}).code(), Code::kFailedPrecondition);
  });
}

// A call returns though the stream is not there yet, and nobody counts the rank as one that waits.
TEST_P(NcclTest, DoesNotKeepTheThreadThatCalls) {
  RunOnGpus([](Communicator& communicator, Payloads& payloads) {
    const std::span<std::byte> numbers = payloads.Take(4000);
    payloads.Write(numbers, std::vector<std::byte>(numbers.size()));
    const auto stream = static_cast<cudaStream_t>(payloads.stream().native_stream);
    std::atomic<bool> open = false;
    ASSERT_EQ(cuda::Enqueue(stream, [&] { open.wait(false); }), cudaSuccess);
    Channel& channel = communicator.channel(ChannelId::kCommLane);
    for (int i = 0; i < 40; ++i)
      EXPECT_TRUE(channel.AllReduce(payloads.stream(), numbers, DType::kBf16).ok());
    EXPECT_EQ(cudaStreamQuery(stream), cudaErrorNotReady);
    EXPECT_EQ(communicator.waits().now, 0u);
    open = true;
    open.notify_all();
    payloads.Read(numbers);
    while (communicator.waits().ended < 40) std::this_thread::yield();
  });
}

TEST(NcclWithoutPeers, NeedsNoLibraryAndCopies) {
  cuda::Reset();
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  ASSERT_TRUE(self->UseGpu({.device = 7}).ok());
  GpuPayloads payloads(1);
  CheckEveryCollectiveOn(*self, payloads);
  EXPECT_EQ(nccl::counters().communicators, 0);
}

TEST(NcclBeforeUseGpu, PayloadsOfGpusAreRefused) {
  cuda::Reset();
  RunRanks(MachinesOf({2}), [](Communicator& communicator) {
    GpuPayloads payloads(1);
    const std::span<std::byte> bytes = payloads.Take(64);
    for (const ChannelId id : {ChannelId::kCommLane, ChannelId::kComputeLane}) {
      const Status status = communicator.channel(id).Broadcast(payloads.stream(), bytes, 0);
      EXPECT_EQ(status.code(), Code::kInternal);
      EXPECT_THAT(status.message(), HasSubstr("broadcast: the payload is on a GPU"));
    }
  });
}

}  // namespace
}  // namespace strata::engine
