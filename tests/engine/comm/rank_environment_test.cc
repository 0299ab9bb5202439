#include "engine/comm/rank_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Only these variables, of all that launchers set, while a test runs.
class RankEnvironmentTest : public testing::Test {
 protected:
  RankEnvironmentTest() {
    for (const char* name : kNames) unsetenv(name);
  }
  ~RankEnvironmentTest() override {
    for (const char* name : kNames) unsetenv(name);
  }
  Result<RankEnvironment> Read(const std::map<std::string, std::string>& variables) {
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    return ReadRankEnvironment();
  }

  static constexpr const char* kNames[] = {"RANK",
                                           "WORLD_SIZE",
                                           "LOCAL_RANK",
                                           "LOCAL_WORLD_SIZE",
                                           "NODE_RANK",
                                           "GROUP_RANK",
                                           "MASTER_ADDR",
                                           "MASTER_PORT",
                                           "STRATA_MASTER_PORT",
                                           "PMIX_RANK",
                                           "OMPI_COMM_WORLD_RANK",
                                           "OMPI_COMM_WORLD_SIZE",
                                           "OMPI_COMM_WORLD_LOCAL_RANK",
                                           "OMPI_COMM_WORLD_LOCAL_SIZE",
                                           "PMI_RANK",
                                           "PMI_SIZE",
                                           "MPI_LOCALRANKID",
                                           "MPI_LOCALNRANKS",
                                           "SLURM_PROCID",
                                           "SLURM_NTASKS",
                                           "SLURM_LOCALID",
                                           "SLURM_NODEID",
                                           "SLURM_STEP_ID",
                                           "SLURM_STEP_TASKS_PER_NODE"};
};

TEST_F(RankEnvironmentTest, WithoutALauncherIsOneRank) {
  Result<RankEnvironment> environment = Read({});
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ(environment->rank, 0u);
  EXPECT_EQ(environment->world_size, 1u);
  EXPECT_EQ(environment->local_rank, std::nullopt);
}

TEST_F(RankEnvironmentTest, ReadsATorchrunStyleEnvironment) {
  Result<RankEnvironment> environment = Read({{"RANK", "5"},
                                              {"WORLD_SIZE", "8"},
                                              {"LOCAL_RANK", "1"},
                                              {"LOCAL_WORLD_SIZE", "4"},
                                              {"GROUP_RANK", "1"},
                                              {"MASTER_ADDR", "node-0"},
                                              {"MASTER_PORT", "29500"}});
  ASSERT_TRUE(environment.ok()) << environment.status().ToString();
  EXPECT_EQ(environment->rank, 5u);
  EXPECT_EQ(environment->world_size, 8u);
  EXPECT_EQ(environment->local_rank, 1u);
  EXPECT_EQ(environment->local_size, 4u);
  EXPECT_EQ(environment->node, 1u);
  EXPECT_EQ(environment->master_addr, "node-0");
  EXPECT_EQ(environment->master_port, 29500);
  EXPECT_EQ(environment->world_size_variable, "WORLD_SIZE");
}

TEST_F(RankEnvironmentTest, ReadsWhatMpirunSets) {
  Result<RankEnvironment> environment = Read({{"OMPI_COMM_WORLD_RANK", "3"},
                                              {"OMPI_COMM_WORLD_SIZE", "4"},
                                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ(environment->rank, 3u);
  EXPECT_EQ(environment->world_size, 4u);
  EXPECT_EQ(environment->local_rank, 1u);
  EXPECT_EQ(environment->local_size, 2u);
  EXPECT_EQ(environment->node, std::nullopt);
}

TEST_F(RankEnvironmentTest, ReadsWhatSrunSetsWithItsFoldedTaskCounts) {
  Result<RankEnvironment> environment = Read({{"SLURM_STEP_ID", "0"},
                                              {"SLURM_PROCID", "9"},
                                              {"SLURM_NTASKS", "11"},
                                              {"SLURM_LOCALID", "1"},
                                              {"SLURM_NODEID", "2"},
                                              {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"}});
  ASSERT_TRUE(environment.ok()) << environment.status().ToString();
  EXPECT_EQ(environment->rank, 9u);
  EXPECT_EQ(environment->world_size, 11u);
  EXPECT_EQ(environment->local_rank, 1u);
  EXPECT_EQ(environment->local_size, 3u);
  EXPECT_EQ(environment->node, 2u);
}

TEST_F(RankEnvironmentTest, ABatchScriptOfSlurmIsOneProcess) {
  Result<RankEnvironment> environment = Read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}});
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ(environment->world_size, 1u);
}

TEST_F(RankEnvironmentTest, ALauncherThatSaysAllGoesBeforeOneThatSaysHalf) {
  Result<RankEnvironment> environment =
      Read({{"WORLD_SIZE", "16"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}});
  ASSERT_TRUE(environment.ok());
  EXPECT_EQ(environment->rank, 1u);
  EXPECT_EQ(environment->world_size, 2u);
}

TEST_F(RankEnvironmentTest, RanksMeetOnThePortAfterTheLaunchersUnlessTold) {
  EXPECT_EQ(Read({})->control_port, 29501);
  EXPECT_EQ(Read({{"MASTER_PORT", "4000"}})->control_port, 4001);
  EXPECT_THAT(Read({{"MASTER_PORT", "65535"}}).status().message(), HasSubstr("STRATA_MASTER_PORT"));
  EXPECT_EQ(Read({{"STRATA_MASTER_PORT", "77"}})->control_port, 77);
  EXPECT_THAT(Read({{"STRATA_MASTER_PORT", "65536"}}).status().message(),
              HasSubstr("STRATA_MASTER_PORT=65536"));
}

TEST_F(RankEnvironmentTest, ARuntimeOfMpisIsKnownByItsOwnVariables) {
  EXPECT_FALSE(Read({{"RANK", "0"}, {"WORLD_SIZE", "2"}})->is_under_mpi);
  EXPECT_TRUE(Read({{"PMIX_RANK", "0"}})->is_under_mpi);
}

TEST_F(RankEnvironmentTest, NonsenseNamesTheVariable) {
  EXPECT_THAT(Read({{"RANK", "first"}, {"WORLD_SIZE", "2"}}).status().message(),
              HasSubstr("RANK='first'"));
  EXPECT_THAT(Read({{"RANK", "1"}, {"LOCAL_RANK", "-1"}}).status().message(),
              HasSubstr("LOCAL_RANK='-1'"));
  EXPECT_THAT(Read({{"LOCAL_RANK", "0"}, {"MASTER_PORT", "70000"}}).status().message(),
              HasSubstr("MASTER_PORT=70000"));
}

TEST_F(RankEnvironmentTest, NonsenseOfSlurmNamesTheVariable) {
  EXPECT_THAT(Read({{"SLURM_STEP_ID", "0"},
                    {"SLURM_PROCID", "0"},
                    {"SLURM_NTASKS", "4"},
                    {"SLURM_NODEID", "0"},
                    {"SLURM_STEP_TASKS_PER_NODE", "4(x"}})
                  .status()
                  .message(),
              HasSubstr("SLURM_STEP_TASKS_PER_NODE='4(x'"));
}

TEST_F(RankEnvironmentTest, HalfAPlaceIsAnErrorThatSaysWhichHalfIsMissing) {
  EXPECT_THAT(Read({{"WORLD_SIZE", "4"}}).status().message(),
              AllOf(HasSubstr("RANK is not set"), HasSubstr("WORLD_SIZE=4")));
  EXPECT_THAT(Read({{"RANK", "4"}, {"WORLD_SIZE", "4"}}).status().message(),
              AllOf(HasSubstr("RANK=4"), HasSubstr("WORLD_SIZE=4")));
}

TEST_F(RankEnvironmentTest, ALocalRankBeyondTheNodeIsAnError) {
  EXPECT_THAT(
      Read({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}})
          .status()
          .message(),
      HasSubstr("LOCAL_RANK=2"));
}

}  // namespace
}  // namespace strata::engine
