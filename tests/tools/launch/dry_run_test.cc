// What would be run, word by word; and the scripts that call strata launch.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "tests/tools/launch/launch_fixture.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DryRunTest : public LaunchFixture {
 protected:
  DryRunTest() { std::ofstream(directory_ + "/hosts") << "worker-0 slots=2\nworker-1 slots=4\n"; }

  // The output with what depends on the machine and on who builds under names.
  static std::string Neutral(std::string text) {
    const auto replace = [&text](const std::string& what, const std::string& by) {
      for (size_t at = text.find(what); at != std::string::npos;
           at = text.find(what, at + by.size()))
        text.replace(at, what.size(), by);
    };
    replace(STRATA_PROGRAM, "STRATA");
    replace("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ", "");
    replace(" --mca mpi_yield_when_idle 1", "");
    return std::regex_replace(text, std::regex("(  rank [0-9]+: ).*"), "$1CORES");
  }
  std::string DryRun(const std::vector<std::string>& options) const {
    std::vector<std::string> words = {STRATA_PROGRAM, "launch", "--dry-run"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", "train", "run.toml", "--resume"});
    const Finished finished = RunProgram(words, directory_);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    return Neutral(finished.out);
  }
};

TEST_F(DryRunTest, OneNode) {
  EXPECT_EQ(DryRun({"--nproc-per-node", "2", "--comm", "mpi"}),
            R"(2 ranks on this machine; nothing is started
localhost: ranks 0-1, slots 0-1 of 2
  rank 0: CORES
  rank 1: CORES

this machine runs:
  mpirun --np 2 --host localhost:2 --mca ras ^slurm,tm,lsf,gridengine --mca plm isolated --mca hwloc_base_binding_policy none -x STRATA_LAUNCH_TOKEN STRATA launch-rank --layout localhost:2:0-1 --control unix:/tmp/strata-launch-XXXXXX/control --master-addr 127.0.0.1 --master-port 29500 --log-dir strata-logs --grace 8 -- STRATA train run.toml --resume
)");
}

TEST_F(DryRunTest, AHostfile) {
  EXPECT_EQ(DryRun({"--hostfile", "hosts", "--include", "worker-0@worker-1:1,3",
                    "--control-address", "login", "-x", "NCCL_DEBUG"}),
            R"(4 ranks on 2 nodes; nothing is started
worker-0: ranks 0-1, slots 0-1 of 2
  cores are chosen there
worker-1: ranks 2-3, slots 1,3 of 4
  cores are chosen there

this machine runs:
  mpirun --np 4 --host worker-0:2,worker-1:2 --mca ras ^slurm,tm,lsf,gridengine --mca plm rsh --mca plm_rsh_no_tree_spawn 1 --mca orte_leave_session_attached 1 --mca plm_rsh_args '-o BatchMode=yes -o ConnectTimeout=20' --mca hwloc_base_binding_policy none -x STRATA_LAUNCH_TOKEN -x NCCL_DEBUG STRATA launch-rank --layout worker-0:2:0-1@worker-1:4:1,3 --control unix:/tmp/strata-launch-XXXXXX/control,login:29500 --master-addr worker-0 --master-port 29500 --log-dir strata-logs --grace 8 -- STRATA train run.toml --resume
)");
}

TEST_F(DryRunTest, APerNodeStart) {
  EXPECT_EQ(DryRun({"--nnodes", "2", "--node-rank", "1", "--nproc-per-node", "2", "--master-addr",
                    "node-a", "--master-port", "4000", "--no-bind", "--comm", "mpi"}),
            R"(4 ranks on 2 nodes; nothing is started
node-0: ranks 0-1, slots 0-1 of 2
node-1: ranks 2-3, slots 0-1 of 2

node-0 you run:
  STRATA launch --nnodes 2 --node-rank 0 --nproc-per-node 2 --master-addr node-a --master-port 4000 -- train run.toml --resume

node-1 you run:
  STRATA launch --nnodes 2 --node-rank 1 --nproc-per-node 2 --master-addr node-a --master-port 4000 -- train run.toml --resume

node-0 runs:
  mpirun --np 4 --host localhost:2,strata-node-1:2 --mca ras ^slurm,tm,lsf,gridengine --mca plm rsh --mca plm_rsh_no_tree_spawn 1 --mca orte_leave_session_attached 1 --mca plm_rsh_agent 'STRATA launch-daemon' --mca hwloc_base_binding_policy none -x STRATA_LAUNCH_TOKEN STRATA launch-rank --layout node-0:2:0-1@node-1:2:0-1 --control unix:/tmp/strata-launch-XXXXXX/control,node-a:4000 --master-addr node-a --master-port 4000 --log-dir strata-logs --grace 8 --no-bind -- STRATA train run.toml --resume
)");
}

TEST_F(DryRunTest, APerNodeStartWithoutMpi) {
  EXPECT_EQ(DryRun({"--nnodes", "2", "--node-rank", "0", "--master-addr", "node-a", "--comm", "tcp",
                    "--no-bind"}),
            R"(2 ranks on 2 nodes, which meet over TCP; nothing is started
node-0: rank 0, slot 0 of 1
node-1: rank 1, slot 0 of 1

node-0 you run:
  STRATA launch --nnodes 2 --node-rank 0 --nproc-per-node 1 --master-addr node-a --master-port 29500 --comm tcp -- train run.toml --resume

node-1 you run:
  STRATA launch --nnodes 2 --node-rank 1 --nproc-per-node 1 --master-addr node-a --master-port 29500 --comm tcp -- train run.toml --resume

node-0 runs:
  STRATA launch-rank --layout node-0:1:0@node-1:1:0 --control unix:/tmp/strata-launch-XXXXXX/control,node-a:29500 --master-addr node-a --master-port 29500 --log-dir strata-logs --grace 8 --no-bind --rank 0 --comm-port PORT -- STRATA train run.toml --resume

node-1 runs:
  STRATA launch-rank --layout node-0:1:0@node-1:1:0 --control node-a:29500 --master-addr node-a --master-port 29500 --log-dir strata-logs --grace 8 --no-bind --rank 1 --comm-port PORT -- STRATA train run.toml --resume
)");
}

TEST_F(DryRunTest, AsJsonItHasTheSameCommands) {
  const nlohmann::json json =
      nlohmann::json::parse(DryRun({"--hostfile", "hosts", "--exclude", "worker-1:0", "--json"}));
  EXPECT_EQ(json["world_size"], 5);
  EXPECT_EQ(json["nodes"][1]["host"], "worker-1");
  EXPECT_EQ(json["nodes"][1]["slots"], (std::vector<int>{1, 2, 3}));
  ASSERT_EQ(json["commands"].size(), 1u);
  const std::vector<std::string> words = json["commands"][0]["words"];
  EXPECT_EQ(words[0], "mpirun");
  EXPECT_EQ(words.back(), "--resume");
  EXPECT_NE(std::find(words.begin(), words.end(), "worker-0:2,worker-1:3"), words.end());
}

TEST_F(DryRunTest, ItStartsAndWritesNothing) {
  std::filesystem::remove(directory_ + "/hosts");
  RunProgram(
      {STRATA_PROGRAM, "launch", "--dry-run", "--program", "/bin/sh", "--", "-c", "touch ran"},
      directory_);
  for (const auto& entry : std::filesystem::directory_iterator(directory_))
    EXPECT_TRUE(entry.path().filename().string().starts_with("run-")) << entry.path();
}

class WrapperTest : public DryRunTest {
 protected:
  Finished Wrapped(const std::vector<std::string>& arguments,
                   std::vector<std::pair<std::string, std::string>> environment) const {
    std::vector<std::string> words = {STRATA_SOURCE_DIR "/tools/train-nodes.sh"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    environment.emplace_back("STRATA", STRATA_PROGRAM);
    environment.emplace_back("STRATA_LAUNCH_OPTIONS", "--dry-run --log-dir my-logs");
    return RunProgram(words, directory_, environment);
  }
};

TEST_F(WrapperTest, PositionalArgumentsBecomeOptions) {
  const Finished finished =
      Wrapped({"3", "2", "4", "node-a", "4000", "run.toml", "--resume"}, {{"NODE_RANK", "1"}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(Neutral(finished.out),
              AllOf(HasSubstr("8 ranks on 2 nodes"), HasSubstr("--master-addr node-a"),
                    HasSubstr("--master-port 4000"), HasSubstr("--log-dir my-logs"),
                    HasSubstr("train run.toml --set zero_optimization.stage=3 --resume")));
}

TEST_F(WrapperTest, AHostfileStartsAllNodesFromHere) {
  const Finished finished =
      Wrapped({"2", "2", "2", "worker-0", "4000", "run.toml"}, {{"HOSTFILE", "hosts"}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(Neutral(finished.out), HasSubstr("--host worker-0:2,worker-1:2 "));
}

TEST_F(WrapperTest, WrongUsageIsExitCodeTwo) {
  EXPECT_EQ(Wrapped({"3", "2", "4"}, {}).exit_code, 2);
  const Finished finished = Wrapped({"three", "2", "4", "a", "1", "run.toml"}, {});
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(finished.err, HasSubstr("'three' is not a number"));
  EXPECT_EQ(Wrapped({"--help"}, {}).exit_code, 0);
}

// srun and scontrol stand-ins: no Slurm is needed to see what they are asked for.
TEST_F(WrapperTest, TheBatchScriptStartsOneLauncherPerNode) {
  const auto script = [this](const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << "#!/bin/sh\n" << text;
    std::filesystem::permissions(directory_ + "/" + name, std::filesystem::perms::owner_all);
  };
  script("scontrol", "echo node-a; echo node-b\n");
  script("srun",
         "echo \"$@\" | sed 's/ bash -c.*//'\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\n"
         "SLURM_NODEID=1 exec \"$@\"\n");
  const Finished finished = RunProgram(
      {STRATA_SOURCE_DIR "/tools/train-slurm.sh", "3", "2", "4", "-", "4000", "run.toml"},
      directory_,
      {{"PATH", directory_ + ":" + std::getenv("PATH")},
       {"SLURM_JOB_ID", "1"},
       {"SLURM_JOB_NODELIST", "node-[a-b]"},
       {"STRATA_TOOLS", STRATA_SOURCE_DIR "/tools"},
       {"STRATA", STRATA_PROGRAM},
       {"STRATA_LAUNCH_OPTIONS", "--dry-run"}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("--nodes=2 --ntasks=2 --ntasks-per-node=1"));
  EXPECT_THAT(Neutral(finished.out),
              AllOf(HasSubstr("8 ranks on 2 nodes"), HasSubstr("--master-addr node-a")));
}

}  // namespace
}  // namespace strata::launch
