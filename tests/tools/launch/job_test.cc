// What command lines, environments and hostfiles mean, and the commands that come of them.
#include "tools/launch/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>

#include "tests/or_die.h"
#include "tools/launch/commands.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Variables = std::map<std::string, std::string>;

Result<Job> Plan(Arguments arguments, const Variables& variables = {},
                 const std::string& why_no_mpi = "") {
  if (arguments.command.empty()) arguments.command = {"train", "run.toml"};
  return PlanJob(
      arguments, "/opt/strata",
      [&](const char* name) {
        auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
      },
      why_no_mpi);
}

// The one that starts all.
std::string StarterOf(const Job& job, const std::string& control, uint32_t cores) {
  const std::vector<Command> commands = StarterCommands(job, control, cores);
  EXPECT_EQ(commands.size(), 1u);
  return ToShell(commands[0]);
}

std::string PlanError(const Arguments& arguments, const Variables& variables = {}) {
  return Plan(arguments, variables).status().message();
}

class HostfileJob : public testing::Test {
 protected:
  HostfileJob() {
    std::ofstream(path_) << "worker-0 slots=4\nworker-1 slots=4\n";
    arguments_.hostfile = path_;
    arguments_.control_address = "login";
  }
  ~HostfileJob() override { unlink(path_.c_str()); }
  const std::string path_ = std::string(STRATA_BINARY_DIR) + "/tests/job-test-hostfile";
  Arguments arguments_;
};

TEST(Job, WithoutOptionsIsOneRankHereWithoutMpi) {
  const Job job = OrDie(Plan({}));
  EXPECT_EQ(job.start, Start::kHere);
  EXPECT_EQ(WorldSize(job.layout), 1u);
  EXPECT_THAT(StarterOf(job, "unix:/c", 2),
              AllOf(StartsWith("/opt/strata launch-rank "), HasSubstr("--rank 0"),
                    HasSubstr(" -- /opt/strata train run.toml"), Not(HasSubstr("mpirun"))));
}

TEST(Job, SeveralRanksHereGoThroughMpirunAndNoOtherMachine) {
  const Job job = OrDie(Plan({.nproc_per_node = 2}));
  EXPECT_EQ(job.start, Start::kMpirun);
  const std::string command = StarterOf(job, "unix:/c", 2);
  EXPECT_THAT(command,
              AllOf(HasSubstr("mpirun --np 2 --host localhost:2 "), HasSubstr("plm isolated"),
                    HasSubstr("hwloc_base_binding_policy none"), Not(HasSubstr("yield"))));
  EXPECT_THAT(StarterOf(job, "unix:/c", 1), HasSubstr("mpi_yield_when_idle 1"));
}

TEST(Job, WithoutMpiSeveralRanksHereAreTheLaunchersOwn) {
  const Job job = OrDie(Plan({.nproc_per_node = 2}, {}, "there is no mpirun here"));
  EXPECT_EQ(job.start, Start::kHere);
  EXPECT_EQ(Describe(job),
            "2 ranks on this machine, which meet over TCP (there is no mpirun here)");
  const std::vector<Command> commands = StarterCommands(job, "unix:/c", 2);
  ASSERT_EQ(commands.size(), 2u);
  EXPECT_THAT(ToShell(commands[0]),
              AllOf(StartsWith("/opt/strata launch-rank --layout localhost:2:0-1 "),
                    HasSubstr(" --rank 0 --comm-port PORT -- /opt/strata train run.toml")));
  EXPECT_THAT(ToShell(commands[1]), HasSubstr(" --rank 1 "));
  // One rank alone meets nobody.
  EXPECT_EQ(Describe(OrDie(Plan({}, {}, "there is no mpirun here"))), "1 rank on this machine");
}

TEST(Job, HowRanksMeetCanBeChosen) {
  EXPECT_EQ(OrDie(Plan({.nproc_per_node = 2, .comm = "tcp"})).start, Start::kHere);
  EXPECT_EQ(OrDie(Plan({.nproc_per_node = 2, .comm = "mpi"}, {}, "none here")).start,
            Start::kMpirun);
  EXPECT_EQ(OrDie(Plan({.nproc_per_node = 2}, {{"STRATA_MASTER_PORT", "4711"}})).comm_port, 4711);
  EXPECT_THAT(PlanError({.comm = "smoke"}), HasSubstr("--comm 'smoke'"));
  EXPECT_THAT(PlanError({}, {{"STRATA_MASTER_PORT", "65536"}}), HasSubstr("65536 is not a port"));
}

TEST(Job, APerNodeStartWithoutMpiStartsEachNodesRanksThere) {
  Job job = OrDie(Plan({.nproc_per_node = 2, .nnodes = 2, .node_rank = 1, .master_addr = "a"}, {},
                       "there is no mpirun here"));
  EXPECT_EQ(job.start, Start::kPerNode);
  EXPECT_EQ(job.comm, Comm::kTcp);
  job.comm_port = 4711;
  const std::vector<Command> commands = StarterCommands(job, "a:29500", 2);
  ASSERT_EQ(commands.size(), 2u);
  EXPECT_THAT(ToShell(commands[0]), HasSubstr(" --rank 2 --comm-port 4711 "));
  EXPECT_THAT(ToShell(commands[1]), HasSubstr(" --rank 3 --comm-port 4711 "));
  EXPECT_THAT(PlanError({.nnodes = 2,
                         .node_rank = 0,
                         .master_addr = "a",
                         .comm = "tcp",
                         .exports = {"NCCL_DEBUG"}}),
              AllOf(HasSubstr("-x NCCL_DEBUG"), HasSubstr("on every node")));
}

TEST(Job, OptionsBeatTheEnvironment) {
  const Variables variables = {{"NNODES", "4"},
                               {"NODE_RANK", "3"},
                               {"NPROC_PER_NODE", "8"},
                               {"MASTER_ADDR", "10.0.0.1"},
                               {"MASTER_PORT", "1234"}};
  const Job from_environment = OrDie(Plan({}, variables));
  EXPECT_EQ(from_environment.start, Start::kPerNode);
  EXPECT_EQ(from_environment.layout, EvenLayout(4, 8));
  EXPECT_EQ(from_environment.node_rank, 3u);
  EXPECT_EQ(from_environment.master_addr, "10.0.0.1");
  EXPECT_EQ(from_environment.master_port, 1234);
  const Job job = OrDie(Plan(
      {.nproc_per_node = 2, .nnodes = 2, .node_rank = 1, .master_addr = "head", .master_port = 99},
      variables));
  EXPECT_EQ(job.layout, EvenLayout(2, 2));
  EXPECT_EQ(job.node_rank, 1u);
  EXPECT_EQ(job.master_addr, "head");
  EXPECT_EQ(job.master_port, 99);
}

TEST(Job, OperatorsThatSetTorchrunsVariablesAreUnderstood) {
  const Job job = OrDie(Plan({}, {{"PET_NNODES", "2"},
                                  {"PET_NODE_RANK", "0"},
                                  {"PET_NPROC_PER_NODE", "4"},
                                  {"PET_MASTER_ADDR", "pod-0"}}));
  EXPECT_EQ(job.layout, EvenLayout(2, 4));
  EXPECT_EQ(job.master_addr, "pod-0");
}

TEST(Job, AVariableThatIsNoNumberIsNamed) {
  EXPECT_THAT(PlanError({}, {{"NNODES", "two"}}), AllOf(HasSubstr("NNODES"), HasSubstr("'two'")));
  EXPECT_THAT(PlanError({}, {{"MASTER_PORT", "70000"}}), HasSubstr("70000"));
}

TEST(Job, WhatDoesNotGoTogetherIsAnErrorThatSaysWhatToDo) {
  EXPECT_THAT(PlanError({.nnodes = 2}), AllOf(HasSubstr("--node-rank"), HasSubstr("--hostfile")));
  EXPECT_THAT(PlanError({.nnodes = 2, .node_rank = 0}), HasSubstr("--master-addr"));
  EXPECT_THAT(PlanError({.nnodes = 2, .node_rank = 2, .master_addr = "a"}),
              HasSubstr("--node-rank 2"));
  EXPECT_THAT(PlanError({.node_rank = 1}), HasSubstr("needs --nnodes"));
  EXPECT_THAT(PlanError({.include = "a"}), HasSubstr("--hostfile"));
  EXPECT_THAT(PlanError({.nproc_per_node = 0}), HasSubstr("--nproc-per-node"));
  EXPECT_THAT(PlanError({.hostfile = "/no/such/file"}), HasSubstr("/no/such/file"));
}

TEST(Job, InsideMpirunItIsRefused) {
  EXPECT_THAT(PlanError({}, {{"OMPI_COMM_WORLD_RANK", "0"}}),
              AllOf(HasSubstr("OMPI_COMM_WORLD_RANK"), HasSubstr("without strata launch")));
}

TEST_F(HostfileJob, StartsAllItsNodesThroughMpirun) {
  const Job job = OrDie(Plan(arguments_));
  EXPECT_EQ(job.start, Start::kMpirun);
  EXPECT_EQ(job.master_addr, "worker-0");
  EXPECT_THAT(StarterOf(job, "c", 2),
              AllOf(HasSubstr("--np 8 --host worker-0:4,worker-1:4 "), HasSubstr("plm rsh"),
                    HasSubstr("BatchMode=yes"), HasSubstr("-x STRATA_LAUNCH_TOKEN")));
}

TEST_F(HostfileJob, FiltersChooseSlotsAndExportsGoAlong) {
  arguments_.include = "worker-0@worker-1:0,2";
  arguments_.exports = {"NCCL_DEBUG"};
  const Job job = OrDie(Plan(arguments_));
  EXPECT_THAT(StarterOf(job, "c", 2),
              AllOf(HasSubstr("--np 6 --host worker-0:4,worker-1:2 "), HasSubstr("-x NCCL_DEBUG"),
                    HasSubstr("--layout worker-0:4:0-3@worker-1:4:0,2")));
}

TEST_F(HostfileJob, FiltersAndCountsExcludeEachOther) {
  arguments_.include = "worker-0";
  arguments_.nnodes = 1;
  EXPECT_THAT(PlanError(arguments_), HasSubstr("cannot be given with them"));
  arguments_.nnodes.reset();
  arguments_.exclude = "worker-1";
  EXPECT_THAT(PlanError(arguments_), HasSubstr("cannot be given together"));
}

TEST_F(HostfileJob, ANodeRankBesideItIsAContradiction) {
  EXPECT_THAT(PlanError(arguments_, {{"NODE_RANK", "1"}}), HasSubstr("give one of them"));
}

TEST_F(HostfileJob, IsMpisAlone) {
  EXPECT_EQ(OrDie(Plan(arguments_, {}, "there is no mpirun here")).comm, Comm::kMpi);
  arguments_.comm = "tcp";
  EXPECT_THAT(PlanError(arguments_), AllOf(HasSubstr("--comm tcp"), HasSubstr("--node-rank")));
}

const Variables kAllocation = {{"SLURM_JOB_ID", "77"}, {"SLURM_JOB_NUM_NODES", "2"}};

TEST(SlurmJob, AnAllocationIsUsedThroughSrun) {
  const Job job = OrDie(Plan({.nproc_per_node = 4, .control_address = "login"}, kAllocation));
  EXPECT_EQ(job.start, Start::kSrun);
  EXPECT_THAT(
      StarterOf(job, "c", 2),
      AllOf(StartsWith("srun --nodes=2 --ntasks=8 --ntasks-per-node=4 "), HasSubstr("--mpi=pmix"),
            HasSubstr("--cpu-bind=none"), HasSubstr("strata launch-rank ")));
}

TEST(SlurmJob, OneOfItsNodesNeedsNoSrun) {
  EXPECT_EQ(OrDie(Plan({.nproc_per_node = 2, .nnodes = 1}, kAllocation)).start, Start::kMpirun);
  EXPECT_EQ(OrDie(Plan({}, {{"SLURM_JOB_ID", "7"}, {"SLURM_NNODES", "1"}})).start, Start::kHere);
}

TEST(SlurmJob, MoreNodesThanAllocatedIsAnError) {
  EXPECT_THAT(PlanError({.nnodes = 3}, kAllocation), HasSubstr("allocation has 2"));
}

TEST(SlurmJob, OneTaskOfManyIsAskedForItsNodeRank) {
  Variables variables = kAllocation;
  variables["SLURM_STEP_ID"] = "0";
  variables["SLURM_STEP_NUM_TASKS"] = "2";
  EXPECT_THAT(PlanError({}, variables), HasSubstr("$SLURM_NODEID"));
  EXPECT_EQ(OrDie(Plan({.nnodes = 2, .node_rank = 1, .master_addr = "a"}, variables)).start,
            Start::kPerNode);
}

TEST(LaunchCommand, IsQuotedForAShell) {
  EXPECT_EQ(ToShell({{{"A", "x y"}}, {"run", "it's", "", "a=b"}}), "A='x y' run 'it'\\''s' '' a=b");
}

}  // namespace
}  // namespace strata::launch
