// strata launch on one node, as its users meet it: with ranks that print, fail, hang, are killed,
// do not want to end.
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <regex>
#include <set>
#include <string>

#include "tests/tools/launch/launch_fixture.h"
#include "tests/tools/program.h"

namespace strata::launch {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;
using testing::UnorderedElementsAre;

using LaunchTest = LaunchFixture;

const std::vector<std::string> kTwo = {"--nproc-per-node", "2"};

// Ranks that mpirun starts, and ranks that the launcher does.
class LaunchBothWaysTest : public LaunchFixture, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string("mpi")) STRATA_NEEDS_MPIRUN();
  }
  static std::vector<std::string> Ranks(const std::string& nproc) {
    return {"--nproc-per-node", nproc, "--comm", GetParam()};
  }
};
INSTANTIATE_TEST_SUITE_P(Comm, LaunchBothWaysTest, testing::Values("mpi", "tcp"),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(LaunchBothWaysTest, EveryRankIsToldWhoItIs) {
  const Finished finished =
      RunShell(Ranks("4"),
               "echo $RANK $LOCAL_RANK of $WORLD_SIZE $LOCAL_WORLD_SIZE on $NODE_RANK at "
               "$MASTER_ADDR:$MASTER_PORT");
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(LinesOf(finished.out),
              UnorderedElementsAre("0 0 of 4 4 on 0 at 127.0.0.1:29500",
                                   "[1] 1 1 of 4 4 on 0 at 127.0.0.1:29500",
                                   "[2] 2 2 of 4 4 on 0 at 127.0.0.1:29500",
                                   "[3] 3 3 of 4 4 on 0 at 127.0.0.1:29500"));
}

TEST_P(LaunchBothWaysTest, RanksDoNotLearnTheSecretOfTheirLauncher) {
  const Finished finished = RunShell(Ranks("2"), "env");
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out, AllOf(HasSubstr("WORLD_SIZE=2"), Not(HasSubstr("STRATA_LAUNCH_"))));
}

TEST_P(LaunchBothWaysTest, RanksAreBoundToTheCoresThatAreSaid) {
  const Finished finished =
      RunShell(Ranks("2"), "grep Cpus_allowed_list /proc/self/status | sed 's/.*\\t//'");
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  std::string plain;
  std::string marked;
  for (const std::string& line : LinesOf(finished.out))
    (line.starts_with("[1] ") ? marked : plain) = line;
  EXPECT_THAT(finished.err, HasSubstr("(cpu " + plain + ") of NUMA node 0"));
  EXPECT_THAT(finished.err, HasSubstr("(cpu " + marked.substr(4) + ") of NUMA node 0"));
  if (sysconf(_SC_NPROCESSORS_ONLN) >= 2) {
    EXPECT_NE(plain, marked.substr(4));
  }
}

TEST_F(LaunchTest, TheEngineUnderstandsWhatRanksAreTold) {
  STRATA_NEEDS_MPIRUN();
  const Finished launched = RunProgram({STRATA_PROGRAM, "launch", "--nproc-per-node", "2",
                                        "--program", STRATA_RANK_ENVIRONMENT_PROGRAM, "--"},
                                       directory_);
  EXPECT_THAT(LinesOf(launched.out), UnorderedElementsAre("engine: rank 0 of 2, 0 of 2 here",
                                                          "[1] engine: rank 1 of 2, 1 of 2 here"));
  // The same without us.
  const Finished direct = RunProgram(
      {"mpirun", "--oversubscribe", "-np", "2", STRATA_RANK_ENVIRONMENT_PROGRAM}, directory_,
      {{"OMPI_ALLOW_RUN_AS_ROOT", "1"}, {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}});
  EXPECT_THAT(LinesOf(direct.out), UnorderedElementsAre("engine: rank 0 of 2, 0 of 2 here",
                                                        "engine: rank 1 of 2, 1 of 2 here"));
}

TEST_F(LaunchTest, OneRankNeedsNoMpi) {
  const Finished finished =
      RunProgram(Shell({}, "echo rank $RANK of $WORLD_SIZE"), directory_, {{"PATH", "/nowhere"}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.out, "rank 0 of 1\n");
}

TEST_F(LaunchTest, ALongTemporaryDirectoryIsNoObstacle) {
  const std::string temporary = directory_ + "/" + std::string(100, 't');
  fs::create_directory(temporary);
  const Finished finished = RunProgram(Shell({}, "true"), directory_, {{"TMPDIR", temporary}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
}

TEST_F(LaunchTest, SeveralRanksWithoutMpirunAreStartedByTheLauncherWhichSaysSo) {
  const Finished finished =
      RunProgram(Shell(kTwo, "echo rank $RANK of $WORLD_SIZE"), directory_, {{"PATH", "/nowhere"}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(LinesOf(finished.out), UnorderedElementsAre("rank 0 of 2", "[1] rank 1 of 2"));
  EXPECT_THAT(finished.err, HasSubstr("launch: 2 ranks on this machine, which meet over TCP (there "
                                      "is no mpirun here); logs in"));
}

TEST_F(LaunchTest, MpiThatIsAskedForAndNotThereIsAnErrorThatSaysWhatToInstall) {
  const Finished finished = RunProgram(Shell({"--nproc-per-node", "2", "--comm", "mpi"}, "true"),
                                       directory_, {{"PATH", "/nowhere"}});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(LinesOf(finished.err).back(),
              AllOf(StartsWith("error: "), HasSubstr("mpirun"), HasSubstr("openmpi-bin"),
                    HasSubstr("--comm tcp")));
}

TEST_F(LaunchTest, WithoutMpiRanksAreToldOnePortThatIsNoOtherJobs) {
  const Running first(Shell({"--nproc-per-node", "2", "--comm", "tcp"},
                            "echo port $STRATA_MASTER_PORT; sleep 1000"),
                      directory_);
  ASSERT_TRUE(first.SaysOnOut("[1] port ")) << first.err();
  const auto ports = [](const std::string& out) {
    std::set<std::string> found;
    for (const std::string& line : LinesOf(out)) found.insert(line.substr(line.rfind(' ')));
    return found;
  };
  const Finished second =
      RunShell({"--nproc-per-node", "2", "--comm", "tcp"}, "echo port $STRATA_MASTER_PORT");
  ASSERT_EQ(ports(first.out()).size(), 1u) << first.out();
  ASSERT_EQ(ports(second.out).size(), 1u) << second.out;
  EXPECT_NE(ports(first.out()), ports(second.out));
  EXPECT_THAT(
      RunProgram(Shell({"--nproc-per-node", "2", "--comm", "tcp"}, "echo port $STRATA_MASTER_PORT"),
                 directory_, {{"STRATA_MASTER_PORT", "4711"}})
          .out,
      HasSubstr("[1] port 4711\n"));
}

TEST_F(LaunchTest, WithoutMpiRanksBelongToNoRuntimeOfIt) {
  const Finished finished = RunProgram(Shell({"--nproc-per-node", "2", "--comm", "tcp"}, "env"),
                                       directory_, {{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}});
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, AllOf(HasSubstr("WORLD_SIZE=2"), Not(HasSubstr("PMI_RANK")),
                                  Not(HasSubstr("OMPI_"))));
}

// It has no way to say so itself: it never reached the launcher.
TEST_F(LaunchTest, WithoutMpiAnAgentThatFailsToStartEndsTheJobAndSaysWhy) {
  const Finished finished =
      RunProgram(Shell({"--nproc-per-node", "2", "--comm", "tcp"}, "sleep 1000"), directory_,
                 {{"LD_PRELOAD", STRATA_DYING_AGENT}});
  EXPECT_EQ(finished.exit_code, 3);
  EXPECT_THAT(
      finished.err.substr(finished.err.rfind("error: ")),
      AllOf(HasSubstr("1 of 2 ranks did not start; what starts them ended with exit code 3"),
            HasSubstr("agent: out of luck")));
}

TEST_P(LaunchBothWaysTest, AFailingRankStopsAllAndItsErrorComesLast) {
  const Finished finished = RunShell(Ranks("4"),
                                     "if [ $RANK = 2 ]; then echo 'error: no more disk' >&2; exit "
                                     "7; fi; sleep 1000");
  EXPECT_EQ(finished.exit_code, 7);
  EXPECT_THAT(finished.err, HasSubstr("[2] error: no more disk"));
  const std::string last = finished.err.substr(finished.err.rfind("\nerror: ") + 1);
  EXPECT_THAT(last, AllOf(HasSubstr("rank 2 on "), HasSubstr("failed first: exit code 7"),
                          HasSubstr("    error: no more disk\n"), HasSubstr("/rank-2.log")));
}

TEST_P(LaunchBothWaysTest, AKilledRankStopsAllAndIsCountedAsShellsDo) {
  const Finished finished =
      RunShell(Ranks("2"), "if [ $RANK = 1 ]; then kill -9 $$; fi; sleep 1000");
  EXPECT_EQ(finished.exit_code, 137);
  EXPECT_THAT(finished.err, HasSubstr("rank 1"));
  EXPECT_THAT(finished.err, HasSubstr("killed by signal 9 (Killed)"));
}

TEST_P(LaunchBothWaysTest, ARankThatDoesNotWantToEndIsKilledAfterTheGrace) {
  const Finished finished =
      RunShell({"--nproc-per-node", "2", "--comm", GetParam(), "--grace", "1"},
               "if [ $RANK = 1 ]; then while [ ! -e deaf ]; do sleep 0.02; done; exit 3; fi; trap "
               "'' TERM; touch deaf; while :; do sleep 0.1; done");
  EXPECT_EQ(finished.exit_code, 3);
  EXPECT_THAT(ReadText(directory_ + "/strata-logs/rank-0.log"),
              HasSubstr("ended: killed by signal 9"));
}

TEST_P(LaunchBothWaysTest, RanksThatAreStoppedMayFinishWhatTheyDo) {
  for (auto [number, exit_code] : {std::pair(SIGINT, 130), std::pair(SIGTERM, 143)}) {
    Running running(Shell(Ranks("2"),
                          "trap 'echo committed; exit 0' TERM; echo ready $RANK; while :; do sleep "
                          "0.05; done"),
                    directory_);
    ASSERT_TRUE(running.SaysOnOut("ready 0\n") && running.SaysOnOut("ready 1\n")) << running.err();
    running.Send(number);
    const Finished finished = running.Wait();
    EXPECT_EQ(finished.exit_code, exit_code);
    const std::vector<std::string> lines = LinesOf(finished.out);
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "committed"), 1) << finished.out;
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "[1] committed"), 1) << finished.out;
  }
}

TEST_F(LaunchTest, ASecondSignalKillsAtOnce) {
  // The rank sends it: when it is told to stop, to its agent's parent.
  const Finished finished = RunShell(
      {"--grace", "1000"},
      "launcher=$(ps -o ppid= -p $PPID); trap 'kill -INT $launcher' TERM; kill -INT $launcher; "
      "while :; do sleep 0.05; done");
  EXPECT_EQ(finished.exit_code, 130);
  EXPECT_THAT(ReadText(directory_ + "/strata-logs/rank-0.log"),
              HasSubstr("ended: killed by signal 9"));
}

TEST_P(LaunchBothWaysTest, NothingSurvivesALauncherThatIsKilled) {
  Running running(Shell(Ranks("2"), "echo ready; sleep 1000"), directory_);
  ASSERT_TRUE(running.SaysOnOut("[1] ready")) << running.err();
  running.Send(SIGKILL);
  EXPECT_EQ(running.Wait().exit_code, -1);
  EXPECT_THAT(LeftOver(), IsEmpty());
  EXPECT_THAT(ReadText(directory_ + "/strata-logs/rank-1.log"), HasSubstr("the launcher is gone"));
}

TEST_P(LaunchBothWaysTest, NothingSurvivesAnAgentThatIsKilled) {
  const Finished agent =
      RunShell(Ranks("2"), "if [ $RANK = 1 ]; then kill -9 $PPID; fi; sleep 1000");
  EXPECT_EQ(agent.exit_code, 1);
  EXPECT_THAT(agent.err, AllOf(HasSubstr("error: rank 1 on"), HasSubstr("was lost")));
  EXPECT_THAT(LeftOver(), IsEmpty());
}

TEST_F(LaunchTest, NothingSurvivesAnMpirunThatIsKilled) {
  STRATA_NEEDS_MPIRUN();
  const Finished mpirun =
      RunShell(kTwo, "if [ $RANK = 1 ]; then kill -9 $(ps -o ppid= -p $PPID); fi; sleep 1000");
  EXPECT_NE(mpirun.exit_code, 0);
  EXPECT_THAT(mpirun.err, HasSubstr("\nerror: "));
}

TEST_F(LaunchTest, WhatARankLeavesRunningEndsWithIt) {
  const Finished finished = RunShell({}, "setsid sleep 1000 & sleep 1000 & echo started; exit 0");
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.out, "started\n");
  EXPECT_THAT(LeftOver(), IsEmpty());
}

TEST_P(LaunchBothWaysTest, LinesOfRanksAreNeverMixed) {
  // Each line in three writes, as fast as they go.
  const Finished finished =
      RunShell(Ranks("4"),
               "i=0; while [ $i -lt 500 ]; do printf '<%s ' $RANK; printf 'middle-of-%s ' $i; "
               "printf '%s>\\n' $RANK; i=$((i+1)); done");
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  const std::vector<std::string> lines = LinesOf(finished.out);
  EXPECT_EQ(lines.size(), 2000u);
  const std::regex whole(R"((\[([123])\] )?<([0-3]) middle-of-[0-9]+ ([0-3])>)");
  for (const std::string& line : lines) {
    std::smatch parts;
    ASSERT_TRUE(std::regex_match(line, parts, whole)) << line;
    EXPECT_EQ(parts[3], parts[4]);
    EXPECT_EQ(parts[2], parts[3] == "0" ? "" : parts[3].str());
  }
}

TEST_P(LaunchBothWaysTest, EveryRankHasALogThatLaterRunsAddTo) {
  for (const char* word : {"first", "second"}) {
    const Finished finished =
        RunShell({"--nproc-per-node", "2", "--comm", GetParam(), "--log-dir", "logs"},
                 std::string("echo ") + word + "; echo problem >&2");
    EXPECT_EQ(finished.exit_code, 0);
  }
  for (const char* rank : {"0", "1"}) {
    const std::string log = ReadText(directory_ + "/logs/rank-" + rank + ".log");
    EXPECT_THAT(log, AllOf(HasSubstr("first\n"), HasSubstr("second\n"), HasSubstr("problem\n"),
                           HasSubstr(std::string("rank ") + rank + " of 2"),
                           HasSubstr("ended: exit code 0")));
  }
}

TEST_F(LaunchTest, ALogDirectoryThatCannotBeMadeIsNamed) {
  std::ofstream(directory_ + "/file") << "in the way";
  const Finished finished = RunShell({"--log-dir", "file/logs"}, "true");
  EXPECT_NE(finished.exit_code, 0);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("--log-dir"), HasSubstr("file/logs")));
}

TEST_F(LaunchTest, AnAgentThatFailsToStartEndsTheJobAndSaysWhy) {
  STRATA_NEEDS_MPIRUN();
  // srun and mpirun number the local ranks otherwise than was asked for: here, by a lie.
  std::ofstream(directory_ + "/mpirun") << "#!/bin/sh\nexec " << MpirunPath()
                                        << " --mca plm isolated --mca ras ^slurm --host "
                                           "localhost:2 --np 2 -x STRATA_LAUNCH_TOKEN sh -c '\n"
                                           "test $OMPI_COMM_WORLD_RANK = 1 && export "
                                           "OMPI_COMM_WORLD_LOCAL_RANK=5\n"
                                           "while [ \"$1\" != -x ]; do shift; done; shift 2; exec "
                                           "\"$@\"' sh \"$@\"\n";
  fs::permissions(directory_ + "/mpirun", fs::perms::owner_all);
  const Finished finished = RunProgram(Shell(kTwo, "sleep 1000"), directory_,
                                       {{"PATH", directory_ + ":" + std::getenv("PATH")}});
  EXPECT_EQ(finished.exit_code, 1);
  const std::string last = finished.err.substr(finished.err.rfind("\nerror: ") + 1);
  EXPECT_THAT(last, HasSubstr("ranks are not where they were asked for"));
}

// A stand-in for srun starts the tasks here and says to them what Slurm says.
TEST_F(LaunchTest, AnAllocationIsUsedThroughSrun) {
  std::ofstream(directory_ + "/srun")
      << "#!/bin/sh\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\n"
         "for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=0 \"$@\" & done; wait\n";
  fs::permissions(directory_ + "/srun", fs::perms::owner_all);
  const std::vector<std::pair<std::string, std::string>> environment = {
      {"PATH", directory_ + ":" + std::getenv("PATH")},
      {"SLURM_JOB_ID", "1"},
      {"SLURM_NNODES", "2"}};
  const std::vector<std::string> options = {"--control-address", "127.0.0.1", "--master-port",
                                            "29731"};
  const Finished finished = RunProgram(Shell(options, "echo $RANK of $WORLD_SIZE on $NODE_RANK"),
                                       directory_, environment);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(LinesOf(finished.out), UnorderedElementsAre("0 of 2 on 0", "[1] 1 of 2 on 1"));
  const Finished failed = RunProgram(
      Shell(options, "if [ $RANK = 1 ]; then exit 5; fi; sleep 1000"), directory_, environment);
  EXPECT_EQ(failed.exit_code, 5);
  EXPECT_THAT(LeftOver(), IsEmpty());
}

TEST_F(LaunchTest, AProgramThatIsNotThereIsNamed) {
  const Finished finished =
      RunProgram({STRATA_PROGRAM, "launch", "--program", "/no/such/program", "--"}, directory_);
  EXPECT_EQ(finished.exit_code, 127);
  EXPECT_THAT(finished.err, HasSubstr("cannot run '/no/such/program'"));
}

TEST_F(LaunchTest, WrongUsageIsExitCodeTwoAndNothingToRunIsSaid) {
  EXPECT_EQ(RunProgram({STRATA_PROGRAM, "launch", "--no-such-flag"}, directory_).exit_code, 2);
  const Finished finished = RunProgram({STRATA_PROGRAM, "launch"}, directory_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("-- train run.toml"));
  EXPECT_THAT(RunProgram({STRATA_PROGRAM, "--help"}, directory_).out,
              AllOf(HasSubstr("launch "), Not(HasSubstr("launch-rank"))));
}

TEST_F(LaunchTest, ItsHiddenCommandsDoNothingForStrangers) {
  const Finished agent =
      RunProgram({STRATA_PROGRAM, "launch-rank", "--layout", "a:1:0", "--control", "unix:/none",
                  "--master-addr", "a", "--master-port", "1", "--log-dir", "logs", "--", "true"},
                 directory_);
  EXPECT_EQ(agent.exit_code, 1);
  EXPECT_THAT(agent.err, HasSubstr("strata launch starts this"));
  const Finished daemon =
      RunProgram({STRATA_PROGRAM, "launch-daemon", "strata-node-1", "orted"}, directory_);
  EXPECT_EQ(daemon.exit_code, 255);
}

TEST_F(LaunchTest, TrainsThroughOneRankAsWithoutItAndCommitsOnCtrlC) {
  const std::string config = tools::WriteTinyConfig(directory_, 3);
  const std::vector<std::string> train = {STRATA_PROGRAM, "launch", "--", "train", config};
  const Finished finished = RunProgram(train, directory_);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("done after 3 of 3 steps"));
  Running running(
      {STRATA_PROGRAM, "launch", "--", "train", config, "--resume", "--set", "train.steps=100000"},
      directory_);
  ASSERT_TRUE(running.SaysOnOut("step      5/100000")) << running.out();
  running.Send(SIGINT);
  const Finished stopped = running.Wait();
  EXPECT_EQ(stopped.exit_code, 130);
  EXPECT_THAT(stopped.out, HasSubstr("stopped after "));
}

#ifdef STRATA_MPI_HELLO
TEST_F(LaunchTest, RanksTalkThroughMpi) {
  STRATA_NEEDS_MPIRUN();
  const Finished finished = RunProgram(
      {STRATA_PROGRAM, "launch", "--nproc-per-node", "3", "--program", STRATA_MPI_HELLO, "--"},
      directory_);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(LinesOf(finished.out),
              UnorderedElementsAre("hello from rank 0 (RANK 0) of 3, 3 on this node, sum 3",
                                   "[1] hello from rank 1 (RANK 1) of 3, 3 on this node, sum 3",
                                   "[2] hello from rank 2 (RANK 2) of 3, 3 on this node, sum 3"));
}

TEST_F(LaunchTest, ARankThatLeavesOthersInACollectiveEndsThemAll) {
  STRATA_NEEDS_MPIRUN();
  const Finished finished = RunProgram({STRATA_PROGRAM, "launch", "--nproc-per-node", "2",
                                        "--program", STRATA_MPI_HELLO, "--", "leave"},
                                       directory_);
  EXPECT_EQ(finished.exit_code, 9);
  EXPECT_THAT(finished.err, HasSubstr("rank 1"));
}
#endif

}  // namespace
}  // namespace strata::launch
