#include "engine/comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <vector>

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(SelfCommunicator, GathersReducesAndSumsItself) {
  std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  Channel& channel = self->channel(ChannelId::kCommLane);
  std::array<float, 3> whole = {1, 2, 3};
  std::array<float, 3> shard = {};
  const auto bytes = [](auto& numbers) { return std::as_writable_bytes(std::span(numbers)); };
  ASSERT_TRUE(channel.ReduceScatter(bytes(whole), bytes(shard), DType::kF32).ok());
  EXPECT_EQ(shard, whole);
  std::array<float, 3> gathered = {};
  ASSERT_TRUE(channel.AllGather(bytes(shard), bytes(gathered)).ok());
  EXPECT_EQ(gathered, whole);
  ASSERT_TRUE(channel.AllReduce(bytes(gathered), DType::kF32).ok());
  ASSERT_TRUE(channel.Broadcast(bytes(gathered), 0).ok());
  EXPECT_EQ(gathered, whole);
  double number = 4;
  ASSERT_TRUE(channel.AllReduceSum({&number, 1}).ok());
  EXPECT_EQ(number, 4);
  EXPECT_TRUE(channel.Barrier().ok());
  EXPECT_EQ(self->traffic()[static_cast<size_t>(Collective::kAllGather)].calls, 1u);
  EXPECT_EQ(self->traffic()[static_cast<size_t>(Collective::kAllGather)].bytes_sent, 0u);
}

TEST(SelfCommunicator, OnceAbortedDoesNothingMore) {
  std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  self->Abort(Internal("enough"));
  self->Abort(Internal("more than enough"));
  const Status status = self->channel(ChannelId::kCpuLane).Barrier();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_EQ(status.message(), "enough");
}

TEST(MakeCommunicatorTest, OneRankNeedsNoPlugin) {
  Result<std::unique_ptr<Communicator>> made = MakeCommunicator({}, {.plugin = "/nowhere"});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->world_size(), 1u);
}

TEST(MakeCommunicatorTest, AMissingPluginIsAnErrorThatNamesPathsAndPackages) {
  const RankEnvironment environment{
      .rank = 0, .world_size = 4, .world_size_variable = "WORLD_SIZE"};
  const Status status =
      MakeCommunicator(environment, {.plugin = "/nowhere/strata_mpi.so"}).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("WORLD_SIZE=4"), HasSubstr("/nowhere/strata_mpi.so"),
                    HasSubstr("-DSTRATA_MPI=ON"), HasSubstr("libopenmpi-dev")));
  // This test's program has none beside it, nor is it installed.
  EXPECT_THAT(MakeCommunicator(environment).status().message(),
              AllOf(HasSubstr("engine/comm/strata_mpi.so"), HasSubstr("strata/strata_mpi.so")));
}

TEST(MakeCommunicatorTest, AFileThatIsNoPluginIsAnErrorThatNamesIt) {
  const std::string path = testing::TempDir() + "/no_plugin.so";
  std::ofstream(path) << "not a library";
  const Status status = MakeCommunicator({.rank = 0, .world_size = 2}, {.plugin = path}).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(path), HasSubstr("openmpi-bin")));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace strata::engine
