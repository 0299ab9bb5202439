// What ranks are told when GPUs, NCCL or one of the ranks fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/comm/gpu_payloads.h"
#include "tests/engine/comm/thread_world.h"
#include "tests/fakes/cuda/emulator.h"
#include "tests/fakes/nccl/fake_nccl.h"

namespace strata::engine {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::StartsWith;
namespace cuda = fakes::cuda;
namespace nccl = fakes::nccl;

// Long enough for ranks to find each other on a busy machine, and for a kernel in the emulator.
#if defined(__SANITIZE_THREAD__)
constexpr milliseconds kShortDeadline(10'000);
#else
constexpr milliseconds kShortDeadline(1'000);
#endif

class NcclFaultsTest : public testing::TestWithParam<std::vector<uint32_t>> {
 protected:
  NcclFaultsTest() {
    cuda::Reset();
    cuda::SetDevices(num_ranks());
    nccl::Reset();
    world_.options.deadline = std::chrono::seconds(30);  // nobody waits for it but who says so
  }
  ~NcclFaultsTest() override {
    cuda::Reset();
    cuda::SetDevices(1);
    cuda::SetMemory(size_t{1} << 30);
    EXPECT_EQ(nccl::counters().communicators, 0);
    EXPECT_EQ(cuda::counters().bytes_allocated, 0u);
    EXPECT_EQ(cuda::counters().events, 0u);
  }
  int num_ranks() const { return static_cast<int>(world_.machines.size()); }
  GpuOptions OptionsOf(const Communicator& communicator) const {
    return {.device = static_cast<int>(communicator.rank()),
            .staging_bytes = 10'000,
            .nccl = &nccl::Functions()};
  }
  // Ends by rank, of what `body` returned.
  using Ends = std::map<uint32_t, Status>;
  Ends Run(const std::function<Status(Communicator&)>& body) {
    Ends ends;
    std::mutex mutex;
    RunRanks(world_, [&](Communicator& communicator) {
      const Status end = body(communicator);
      std::lock_guard lock(mutex);
      ends[communicator.rank()] = end;
    });
    return ends;
  }
  // Once all ranks have their GPUs; then the ranks' first failure, as the next collective of host
  // memory tells it.
  Ends RunOnGpus(const std::function<void(Communicator&, Channel&, GpuPayloads&)>& body) {
    return Run([&](Communicator& communicator) -> Status {
      STRATA_RETURN_IF_ERROR(communicator.UseGpu(OptionsOf(communicator)));
      GpuPayloads payloads(communicator.rank());
      body(communicator, communicator.channel(ChannelId::kCommLane), payloads);
      Status end;
      while (end.ok()) end = communicator.channel(ChannelId::kControl).Barrier();
      static_cast<void>(cudaStreamSynchronize(payloads.native_stream()));  // does not hang
      return end;
    });
  }
  static std::span<std::byte> Zeros(GpuPayloads& payloads, uint64_t size_bytes) {
    const std::span<std::byte> bytes = payloads.Take(size_bytes);
    payloads.Write(bytes, std::vector<std::byte>(size_bytes));
    return bytes;
  }

  ThreadWorld world_ = MachinesOf(GetParam());
};

INSTANTIATE_TEST_SUITE_P(RanksOfMachines, NcclFaultsTest,
                         testing::Values(std::vector<uint32_t>{3}, std::vector<uint32_t>{2, 1}));

TEST_P(NcclFaultsTest, ARankWithoutItsGpuIsAnErrorOfAll) {
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         GpuOptions options = OptionsOf(communicator);
         if (communicator.rank() == 1) options.device = 9;
         return communicator.UseGpu(options);
       })) {
    EXPECT_THAT(end.message(), StartsWith(rank == 1 ? "choose GPU 9: " : "rank 1: choose GPU 9: "));
  }
}

TEST_P(NcclFaultsTest, AGpuWithoutRoomIsAnErrorOfAllThatSaysWhatToChange) {
  cuda::SetMemory(9'999);
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         return communicator.UseGpu(OptionsOf(communicator));
       })) {
    EXPECT_EQ(end.code(), Code::kResourceExhausted);
    EXPECT_THAT(end.message(), AllOf(HasSubstr("9.77 KiB of GPU memory for collectives"),
                                     HasSubstr("nvidia-smi tells")));
  }
}

TEST_P(NcclFaultsTest, TwoRanksOfOneGpuAreNamed) {
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         GpuOptions options = OptionsOf(communicator);
         if (communicator.rank() == 1) options.device = 0;
         return communicator.UseGpu(options);
       })) {
    EXPECT_EQ(end.code(), Code::kFailedPrecondition);
    EXPECT_THAT(end.message(), AllOf(HasSubstr("ranks 0 and 1 have one GPU (0000:01:00.0)"),
                                     HasSubstr("CUDA_VISIBLE_DEVICES")));
  }
}

TEST_P(NcclFaultsTest, DifferentVersionsAreRefused) {
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         nccl::SetVersionOfThread(communicator.rank() == 2 ? 21805 : 0);
         return communicator.UseGpu(OptionsOf(communicator));
       })) {
    EXPECT_EQ(end.code(), Code::kFailedPrecondition);
    EXPECT_THAT(end.message(), HasSubstr("rank 0 has NCCL 2.28.9, rank 2 has 2.18.5"));
  }
}

TEST_P(NcclFaultsTest, WhatFailsAtTheStartIsToldToAll) {
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         if (communicator.rank() == 1) nccl::FailNext("init_rank", NcclResult::kSystemError);
         return communicator.UseGpu(OptionsOf(communicator));
       })) {
    EXPECT_THAT(end.message(),
                HasSubstr("use the GPU of rank 1: start NCCL: NCCL: unhandled system error: "
                          "the fake's last words"));
  }
}

TEST_P(NcclFaultsTest, GpusThatDoNotFindEachOtherEndAtTheDeadline) {
  world_.options.deadline = kShortDeadline;
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         if (communicator.rank() == 1) nccl::FailNext("join", NcclResult::kSystemError);
         return communicator.UseGpu(OptionsOf(communicator));
       })) {
    EXPECT_THAT(end.message(),
                AllOf(HasSubstr("did not find each other in 1"), HasSubstr("NCCL_DEBUG=INFO")));
  }
}

TEST_P(NcclFaultsTest, LinksThatChangeBytesAreFoundBeforeTraining) {
  nccl::Corrupt();
  for (const auto& [rank, end] : Run([&](Communicator& communicator) {
         return communicator.UseGpu(OptionsOf(communicator));
       })) {
    EXPECT_THAT(end.message(), AllOf(HasSubstr("the first collectives of the GPUs gave"),
                                     HasSubstr("nvidia-smi topo -m")));
  }
}

TEST_P(NcclFaultsTest, WhatNcclRefusesIsToldToAllWithTheCollective) {
  for (const auto& [rank, end] :
       RunOnGpus([](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const std::span<std::byte> whole = Zeros(payloads, 300);
         if (communicator.rank() == 1) nccl::FailNext("all_gather", NcclResult::kInvalidUsage);
         const Status status = channel.AllGather(
             payloads.stream(), whole.subspan(100 * communicator.rank(), 100), whole);
         EXPECT_FALSE(status.ok() && communicator.rank() == 1);
       })) {
    // Four collectives were for trying out.
    EXPECT_THAT(end.message(),
                HasSubstr("comm lane: all-gather 5 (300 B) on the GPU: rank 1: all-gather: NCCL: "
                          "invalid usage: the fake's last words"));
  }
}

// Reported by the library's own threads, while what is on the stream hangs.
TEST_P(NcclFaultsTest, AnErrorUnderWayNamesRankAndCollective) {
  for (const auto& [rank, end] :
       RunOnGpus([](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const std::span<std::byte> numbers = Zeros(payloads, 40'000);
         if (communicator.rank() == 1) {
           while (communicator.waits().ended < 3) std::this_thread::yield();
           nccl::FailLater(1, NcclResult::kRemoteError);
         }
         // The failure may be known by now, or not.
         static_cast<void>(channel.AllReduce(payloads.stream(), numbers, DType::kBf16).ok());
       })) {
    EXPECT_EQ(end.code(), Code::kUnavailable);
    EXPECT_THAT(end.message(),
                AllOf(HasSubstr("comm lane: "), HasSubstr("rank 1"),
                      HasSubstr("NCCL: remote process exited or there was a network error: the "
                                "fake's last words")));
  }
  EXPECT_EQ(nccl::counters().aborts, num_ranks());
}

TEST_P(NcclFaultsTest, AnAbortEndsWhatIsOnAllStreams) {
  for (const auto& [rank, end] :
       RunOnGpus([](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const std::span<std::byte> numbers = Zeros(payloads, 40'000);
         if (communicator.rank() == 1) return communicator.Abort(Internal("enough"));
         static_cast<void>(channel.AllReduce(payloads.stream(), numbers, DType::kF32).ok());
         payloads.Read(numbers);
         EXPECT_FALSE(channel.AllReduce(payloads.stream(), numbers, DType::kF32).ok());
       })) {
    EXPECT_THAT(end.message(), HasSubstr("rank 1 aborts the collectives: enough"));
  }
}

TEST_P(NcclFaultsTest, ARankThatDoesNotComeIsNamed) {
  world_.options.deadline = kShortDeadline;
  std::atomic<int> num_given_up = 0;
  for (const auto& [rank, end] :
       RunOnGpus([&](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const std::span<std::byte> numbers = Zeros(payloads, 4'000);
         if (communicator.rank() == 1) {
           while (num_given_up < num_ranks() - 1) std::this_thread::yield();
           return;
         }
         EXPECT_TRUE(channel.AllReduce(payloads.stream(), numbers, DType::kF32).ok());
         while (communicator.waits().now == 0) std::this_thread::yield();
         payloads.Read(numbers);
         ++num_given_up;
       })) {
    EXPECT_THAT(end.message(),
                AllOf(HasSubstr("comm lane: all-reduce 5 (3.91 KiB) on the GPU: rank "),
                      HasSubstr(" waits for rank 1 ("), HasSubstr("which has not come")));
  }
}

TEST_P(NcclFaultsTest, ARankThatShowsProgressIsWaitedFor) {
  world_.options.deadline = kShortDeadline;
  for (const auto& [rank, end] : Run([&](Communicator& communicator) -> Status {
         STRATA_RETURN_IF_ERROR(communicator.UseGpu(OptionsOf(communicator)));
         GpuPayloads payloads(communicator.rank());
         const std::span<std::byte> numbers = Zeros(payloads, 4'000);
         if (communicator.rank() == 1) {
           const auto end_of_work = std::chrono::steady_clock::now() + 2 * world_.options.deadline;
           for (uint64_t i = 1; std::chrono::steady_clock::now() < end_of_work; ++i) {
             communicator.ShowProgress(i);
             std::this_thread::yield();
           }
         }
         STRATA_RETURN_IF_ERROR(communicator.channel(ChannelId::kCommLane)
                                    .AllReduce(payloads.stream(), numbers, DType::kF32));
         payloads.Read(numbers);
         return communicator.channel(ChannelId::kControl).Barrier();
       })) {
    EXPECT_TRUE(end.ok()) << rank << ": " << end.ToString();
  }
}

TEST_P(NcclFaultsTest, WhatNcclDoesNotFinishEndsAtTheDeadline) {
  world_.options.deadline = kShortDeadline;
  for (const auto& [rank, end] :
       RunOnGpus([](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const std::span<std::byte> numbers = Zeros(payloads, 4'000);
         while (communicator.waits().ended < 3) std::this_thread::yield();
         nccl::Stall();
         static_cast<void>(channel.AllReduce(payloads.stream(), numbers, DType::kF32).ok());
         payloads.Read(numbers);
       })) {
    EXPECT_THAT(end.message(),
                AllOf(HasSubstr("all ranks have come, and NCCL has not finished it in "),
                      HasSubstr("NCCL_DEBUG=INFO")));
  }
}

// Of one node at once; ranks of different nodes would find out at the deadline.
TEST_P(NcclFaultsTest, RanksThatCallDifferentCollectivesAreToldSo) {
  for (const auto& [rank, end] :
       RunOnGpus([](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const uint64_t size_bytes = communicator.rank() == 1 ? 4'000 : 8'000;
         const std::span<std::byte> numbers = Zeros(payloads, size_bytes);
         static_cast<void>(channel.AllReduce(payloads.stream(), numbers, DType::kF32).ok());
         payloads.Read(numbers);
       })) {
    EXPECT_THAT(end.message(), AllOf(HasSubstr("comm lane: collective 5 on the GPU: rank "),
                                     HasSubstr("rank 1 calls all-reduce of 4000 bytes, fp32"),
                                     HasSubstr("the same program with the same configuration")));
  }
}

// All ranks of this test have one emulated driver, so all of them meet it.
TEST_P(NcclFaultsTest, AGpuThatFailsIsToldInCudasWords) {
  for (const auto& [rank, end] :
       RunOnGpus([&](Communicator&communicator, Channel&channel, GpuPayloads&payloads) {
         const std::span<std::byte> numbers = Zeros(payloads, 4'000);
         while (communicator.waits().ended < 3) std::this_thread::yield();
         if (communicator.rank() == 0) cuda::FailKernel(0, cudaErrorIllegalAddress);
         static_cast<void>(channel.AllReduce(payloads.stream(), numbers, DType::kF32).ok());
       })) {
    EXPECT_THAT(end.message(), HasSubstr("(cudaErrorIllegalAddress)"));
  }
}

}  // namespace
}  // namespace strata::engine
