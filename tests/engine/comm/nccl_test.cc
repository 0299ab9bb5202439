// The collectives of GPUs, over ranks that are threads with an emulated GPU each and a stand-in for
// NCCL: what is ours of them. nccl_on_gpus_test.cc does it with what is NVIDIA's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "engine/comm/nccl/node_sums.h"
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
                                         std::vector<uint32_t>{4}, std::vector<uint32_t>{2, 1},
                                         // Node by node: fp32, and of the last all types.
                                         std::vector<uint32_t>{3, 3},
                                         std::vector<uint32_t>{2, 2, 2},
                                         std::vector<uint32_t>{4, 4, 4}),
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

// What NCCL was given to move from or to a rank.
Traffic MovedBy(const ThreadWorld& world, uint32_t rank) {
  Traffic moved;
  for (uint32_t peer = 0; peer < world.machines.size(); ++peer) {
    const uint64_t sent = nccl::BytesSent(static_cast<int>(rank), static_cast<int>(peer));
    const uint64_t received = nccl::BytesSent(static_cast<int>(peer), static_cast<int>(rank));
    moved.bytes_sent += sent;
    moved.bytes_received += received;
    if (world.machines[peer] == world.machines[rank]) continue;
    moved.bytes_sent_between_nodes += sent;
    moved.bytes_received_between_nodes += received;
  }
  return moved;
}

TEST_P(NcclTest, CountsWhatNcclIsGivenToMove) {
  RunOnGpus([&](Communicator& communicator, Payloads& payloads) {
    Channel& control = communicator.channel(ChannelId::kControl);
    Channel& channel = communicator.channel(ChannelId::kCommLane);
    const uint64_t world = world_.machines.size();
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      ASSERT_TRUE(control.Barrier().ok());
      const Traffic moved_before = MovedBy(world_, communicator.rank());
      ASSERT_TRUE(control.Barrier().ok());
      const Traffic counted_before = Sum(communicator.traffic());
      const std::span<std::byte> whole = payloads.Take(world * 4'016 + 12);
      payloads.Write(whole, std::vector<std::byte>(whole.size()));
      const std::span<std::byte> even = whole.first(world * 4'016);
      const std::span<std::byte> shard = even.subspan(communicator.rank() * 4'016, 4'016);
      ASSERT_TRUE(channel.ReduceScatter(payloads.stream(), even, shard, dtype).ok());
      ASSERT_TRUE(channel.AllGather(payloads.stream(), shard, even).ok());
      ASSERT_TRUE(channel.AllReduce(payloads.stream(), whole, dtype).ok());
      payloads.Read(whole);
      const Traffic counted = Sum(communicator.traffic());
      ASSERT_TRUE(control.Barrier().ok());
      const Traffic moved = MovedBy(world_, communicator.rank());
      for (const auto bytes :
           {&Traffic::bytes_sent, &Traffic::bytes_received, &Traffic::bytes_sent_between_nodes,
            &Traffic::bytes_received_between_nodes}) {
        EXPECT_EQ(counted.*bytes - counted_before.*bytes, moved.*bytes - moved_before.*bytes);
      }
    }
  });
}

// Each rank of three nodes of four sends the twelve segments' partial sums to the next node once,
// in fp32, in place of eight segments of its own to their owners.
TEST(NcclBetweenNodes, SumsAreMadeNodeByNodeWhereThatSendsLess) {
  const auto ranks_of = [](uint32_t rank, const std::vector<uint32_t>& machines) {
    return *RankMap::Create(rank, MachinesOf(machines).machines, 0);
  };
  EXPECT_TRUE(SumsNodeByNode(ranks_of(0, {4, 4, 4}), DType::kBf16));
  const uint64_t segment_bytes = 1'000;
  for (const uint32_t rank : {0u, 5u})
    EXPECT_EQ(TrafficOfNodeSums(ranks_of(rank, {4, 4, 4}), DType::kBf16, segment_bytes)
                  .bytes_sent_between_nodes,
              3 * 2 * segment_bytes);
  EXPECT_EQ(TrafficOfNodeSums(ranks_of(11, {4, 4, 4}), DType::kBf16, segment_bytes)
                .bytes_sent_between_nodes,
            2 * segment_bytes);
  // Of two nodes of 16-bit elements, four GPUs send as much either way, and one hop is faster.
  EXPECT_FALSE(SumsNodeByNode(ranks_of(0, {4, 4}), DType::kBf16));
  EXPECT_TRUE(SumsNodeByNode(ranks_of(0, {8, 8}), DType::kBf16));
  EXPECT_TRUE(SumsNodeByNode(ranks_of(0, {3, 3}), DType::kF32));
  EXPECT_FALSE(SumsNodeByNode(ranks_of(0, {8}), DType::kF32));
  EXPECT_FALSE(SumsNodeByNode(ranks_of(0, {8, 4}), DType::kF32));
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
