// What ranks are told when one of them does not do what the others do. Over threads;
// mpi_faults_test does it with processes that die.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/comm/thread_world.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class CollectiveFaultsTest : public testing::TestWithParam<std::vector<uint32_t>> {
 protected:
  CollectiveFaultsTest() {
    world_.options.deadline = std::chrono::milliseconds(300);
    buffers_.assign(world_.machines.size(), std::vector<std::byte>(40'000));
  }
  // Ends by rank, of what `body` returned.
  std::map<uint32_t, Status> Run(
      const std::function<Status(Communicator&, std::span<std::byte>)>& body) {
    std::map<uint32_t, Status> ends;
    std::mutex mutex;
    RunRanks(world_, [&](Communicator& communicator) {
      const Status end = body(communicator, buffers_[communicator.rank()]);
      std::lock_guard lock(mutex);
      ends[communicator.rank()] = end;
    });
    return ends;
  }

  ThreadWorld world_ = MachinesOf(GetParam());
  std::vector<std::vector<std::byte>>
      buffers_;  // messages may still be read when a rank has failed
};

INSTANTIATE_TEST_SUITE_P(RanksOfMachines, CollectiveFaultsTest,
                         testing::Values(std::vector<uint32_t>{3}, std::vector<uint32_t>{2, 1},
                                         std::vector<uint32_t>{1, 1, 1}));

TEST_P(CollectiveFaultsTest, ARankThatDoesNotComeIsNamedByAll) {
  for (const auto& [rank, end] : Run([](Communicator&communicator, std::span<std::byte> bytes) {
         Channel& channel = communicator.channel(ChannelId::kCommLane);
         STRATA_RETURN_IF_ERROR(channel.Barrier());
         if (communicator.rank() == 1) {
           // It comes once the others have given up.
           while (communicator.channel(ChannelId::kCpuLane).Barrier().ok()) continue;
           return OkStatus();
         }
         std::jthread cpu_lane([&] {
           while (communicator.channel(ChannelId::kCpuLane).Barrier().ok()) continue;
         });
         return channel.AllReduce(bytes, DType::kF32);
       })) {
    if (rank == 1) continue;
    EXPECT_THAT(end.code(), AnyOf(Code::kDeadlineExceeded, Code::kUnavailable));
    EXPECT_THAT(end.message(),
                AllOf(HasSubstr("comm lane: all-reduce 2 (39.1 KiB)"), HasSubstr("rank 1 ("),
                      HasSubstr("no progress for 0."), HasSubstr("has not come")));
  }
}

// Other lanes of it, or its drive, may be at work for long before it comes.
TEST_P(CollectiveFaultsTest, ARankThatShowsProgressIsWaitedFor) {
  for (const auto& [rank, end] : Run([&](Communicator&communicator, std::span<std::byte>) {
         const auto enough = std::chrono::steady_clock::now() + 4 * world_.options.deadline;
         for (uint64_t i = 1; communicator.rank() == 1; ++i) {
           communicator.ShowProgress(i);
           std::this_thread::sleep_for(world_.options.deadline / 30);
           if (std::chrono::steady_clock::now() > enough) break;
         }
         return communicator.channel(ChannelId::kCommLane).Barrier();
       })) {
    EXPECT_TRUE(end.ok()) << "rank " << rank << ": " << end.message();
  }
}

TEST_P(CollectiveFaultsTest, WhoWaitsIsCountedAndSoAreItsWaitsThatEnded) {
  std::atomic<bool> is_watched = false;
  for (const auto& [rank, end] : Run([&](Communicator&communicator, std::span<std::byte>) {
         if (communicator.rank() == 1)
           while (!is_watched) std::this_thread::yield();
         std::jthread watcher([&] {
           if (communicator.rank() != 0) return;
           while (communicator.waits().now == 0) std::this_thread::yield();
           is_watched = true;
         });
         const Status met = communicator.channel(ChannelId::kCpuLane).Barrier();
         EXPECT_EQ(communicator.waits().now, 0u);
         EXPECT_GE(communicator.waits().ended, communicator.rank() == 0 ? 1u : 0u);
         return met;
       })) {
    EXPECT_TRUE(end.ok()) << "rank " << rank << ": " << end.message();
  }
}

TEST_P(CollectiveFaultsTest, AnAbortReachesEveryChannelOfEveryRankWithItsReason) {
  for (const auto& [rank, end] : Run([](Communicator&communicator, std::span<std::byte> bytes) {
         if (communicator.rank() == 2) communicator.Abort(DataLoss("the drive is gone"));
         Status end;
         while (end.ok())
           end = communicator.channel(ChannelId::kCpuLane).AllReduce(bytes, DType::kBf16);
         EXPECT_FALSE(communicator.channel(ChannelId::kControl).Barrier().ok());
         return end;
       })) {
    EXPECT_EQ(end.message(), "rank 2 aborts the collectives: the drive is gone") << rank;
  }
}

TEST_P(CollectiveFaultsTest, RanksThatCallDifferentCollectivesAreToldWhichTheyCalled) {
  for (const auto& [rank, end] : Run([](Communicator&communicator, std::span<std::byte> bytes) {
         Channel& channel = communicator.channel(ChannelId::kCommLane);
         Status end;
         for (int i = 0; end.ok(); ++i) {
           const bool is_wrong = i == 3 && communicator.rank() == 2;
           end = channel.AllReduce(bytes, is_wrong ? DType::kBf16 : DType::kF32);
         }
         return end;
       })) {
    EXPECT_THAT(end.message(), AllOf(HasSubstr("rank 2 calls all-reduce of 40000 bytes, bf16"),
                                     HasSubstr("calls all-reduce of 40000 bytes, fp32"),
                                     HasSubstr("same configuration")))
        << rank;
  }
}

TEST_P(CollectiveFaultsTest, NobodyWaitsLongerThanTheDeadlineForARankThatIsBusyElsewhere) {
  for (const auto& [rank, end] : Run([](Communicator&communicator, std::span<std::byte>) {
         if (communicator.rank() == 0) return OkStatus();  // and waits for the others to leave, too
         return communicator.channel(ChannelId::kCommLane).Barrier();
       })) {
    if (rank == 0) continue;
    EXPECT_FALSE(end.ok());
    EXPECT_THAT(end.message(), Not(HasSubstr("has ended")));
  }
}

}  // namespace
}  // namespace strata::engine
