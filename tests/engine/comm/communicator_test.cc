#include "engine/comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <vector>

namespace strata::engine {
namespace {

using testing::HasSubstr;

// Sets a variable for one test.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~ScopedVariable() { unsetenv(name_); }

 private:
  const char* name_;
};

TEST(SelfCommunicator, GathersReducesAndSumsItself) {
  std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  std::array<float, 3> whole = {1, 2, 3};
  std::array<float, 3> shard = {};
  ASSERT_TRUE(self->ReduceScatter(whole, shard).ok());
  EXPECT_EQ(shard, whole);
  std::array<float, 3> gathered = {};
  ASSERT_TRUE(
      self->AllGather(std::as_bytes(std::span(shard)), std::as_writable_bytes(std::span(gathered)))
          .ok());
  EXPECT_EQ(gathered, whole);
  double number = 4;
  ASSERT_TRUE(self->AllReduceSum({&number, 1}).ok());
  EXPECT_EQ(number, 4);
}

TEST(RankEnvironment, WithoutALauncherIsOneRank) {
  Result<RankEnvironment> environment = ReadRankEnvironment();
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ(environment->rank, 0u);
  EXPECT_EQ(environment->world_size, 1u);
}

TEST(RankEnvironment, ReadsWhatEachLauncherSets) {
  for (auto [rank, size] :
       {std::pair("RANK", "WORLD_SIZE"), std::pair("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        std::pair("SLURM_PROCID", "SLURM_NTASKS")}) {
    ScopedVariable set_rank(rank, "3");
    ScopedVariable set_size(size, "8");
    Result<RankEnvironment> environment = ReadRankEnvironment();
    ASSERT_TRUE(environment.ok());
    EXPECT_EQ(environment->rank, 3u);
    EXPECT_EQ(environment->world_size, 8u);
  }
}

TEST(RankEnvironment, NonsenseNamesTheVariable) {
  ScopedVariable rank("RANK", "first");
  EXPECT_THAT(ReadRankEnvironment().status().message(), HasSubstr("RANK='first'"));
}

TEST(RankEnvironment, ARankOutsideTheWorldIsAnError) {
  ScopedVariable rank("RANK", "4");
  ScopedVariable size("WORLD_SIZE", "4");
  EXPECT_FALSE(ReadRankEnvironment().ok());
}

TEST(MakeCommunicator, SeveralRanksAreRefusedUntilThereIsATransport) {
  EXPECT_TRUE(MakeCommunicator({}).ok());
  EXPECT_EQ(MakeCommunicator({.rank = 0, .world_size = 2}).status().code(), Code::kUnimplemented);
}

}  // namespace
}  // namespace strata::engine
