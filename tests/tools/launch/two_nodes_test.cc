// Two nodes with a network between them: network namespaces with host names, shared memory and
// addresses of their own. Needs root.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/tools/launch/launch_fixture.h"
#include "tests/tools/program.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

bool Succeeds(const std::string& command) {
  return std::system(("(" + command + ") >/dev/null 2>&1").c_str()) == 0;
}

class TwoNodesTest : public LaunchFixture {
 protected:
  void SetUp() override {
    if (comm_ == "mpi") STRATA_NEEDS_MPIRUN();
    const bool made = Succeeds("ip netns add " + Namespace(0) + " && ip netns add " + Namespace(1) +
                               " && ip link add stl0 netns " + Namespace(0) +
                               " type veth peer name stl1 netns " + Namespace(1) + " && " +
                               Configure(0) + " && " + Configure(1) + " && ip netns exec " +
                               Namespace(0) + " unshare --uts --mount --ipc --pid --fork true");
    const char* required = std::getenv("STRATA_REQUIRE");
    const bool is_required =
        required != nullptr && std::string(required).find("netns") != std::string::npos;
    if (!made && is_required) FAIL() << "network namespaces cannot be made here";
    if (!made) GTEST_SKIP() << "network namespaces cannot be made here (root, iproute2)";
  }
  void TearDown() override {
    for (int node : {0, 1}) Succeeds("ip netns del " + Namespace(node));
  }

  static std::string Namespace(int node) {
    return "strata-" + std::to_string(getpid()) + "-" + std::to_string(node);
  }
  static std::string Configure(int node) {
    const std::string ip = "ip -n " + Namespace(node);
    const std::string link = "stl" + std::to_string(node);
    return ip + " addr add 10.99.0." + std::to_string(node + 1) + "/24 dev " + link + " && " + ip +
           " link set " + link + " up && " + ip + " link set lo up";
  }

  // What runs the words behind it on a node of that name.
  std::vector<std::string> In(int node, const std::string& host_name) const {
    std::vector<std::string> words = {"ip",      "netns", "exec",    Namespace(node),
                                      "unshare", "--uts", "--mount", "--ipc"};
    // The first process of a namespace is not to be the program: it would ignore signals.
    const std::string how = has_own_processes_ ? "" : "exec ";
    if (has_own_processes_) words.insert(words.end(), {"--pid", "--fork", "--mount-proc"});
    words.insert(
        words.end(),
        {"sh", "-c",
         "hostname " + host_name + " && mount -t tmpfs none /dev/shm && " + how + "\"$@\"", "sh"});
    return words;
  }
  // A stand-in for ssh, which needs no keys and no server: enters node 1, where `far-away` is
  // meant.
  void WriteRemoteShell() const {
    std::ofstream(directory_ + "/ssh")
        << "#!/bin/sh\necho \"$@\" >> asked\nwhile [ \"$1\" = -o -o \"$1\" = -x ]; do [ \"$1\" = "
           "-o "
           "] && shift; shift; done\ntest \"$1\" = far-away || exit 255\nshift\nexec ip netns exec "
        << Namespace(1)
        << " unshare --uts --mount --ipc sh -c 'hostname far-away; mount -t tmpfs none /dev/shm; "
           "exec sh -c \"$*\"' sh \"$@\"\n";
    std::filesystem::permissions(directory_ + "/ssh", std::filesystem::perms::owner_all);
  }

  // strata launch on a node, of `nproc` ranks, that runs `command`.
  std::vector<std::string> Node(int node, int rank, int nproc,
                                const std::vector<std::string>& command,
                                const std::string& nnodes = "2") const {
    std::vector<std::string> words =
        In(node, "node-" + std::to_string(rank) + "-of-" + std::to_string(node));
    for (const std::string& word : std::vector<std::string>{
             STRATA_PROGRAM, "launch", "--nnodes", nnodes, "--node-rank", std::to_string(rank),
             "--nproc-per-node", std::to_string(nproc), "--master-addr", "10.99.0.1", "--log-dir",
             "logs-" + std::to_string(rank), "--comm", comm_, "--program", command[0], "--"})
      words.push_back(word);
    words.insert(words.end(), command.begin() + 1, command.end());
    return words;
  }

  std::string comm_ = "mpi";
  // Ranks that see each other's processes share memory, whatever the network, where they meet over
  // TCP; for MPI other host names are other machines.
  bool has_own_processes_ = false;
  const std::vector<std::pair<std::string, std::string>> home_ = {{"HOME", directory_},
                                                                  {"XDG_CONFIG_HOME", ""}};
};

// Ranks that mpirun starts through the launchers, and ranks that these start.
class TwoNodesBothWaysTest : public TwoNodesTest, public testing::WithParamInterface<const char*> {
 protected:
  TwoNodesBothWaysTest() { comm_ = GetParam(); }
};
const auto kBothWays = testing::Values("mpi", "tcp");
const auto kName = [](const auto& one) { return std::string(one.param); };
INSTANTIATE_TEST_SUITE_P(Comm, TwoNodesBothWaysTest, kBothWays, kName);

const std::vector<std::string> kHang = {"/bin/sh", "-c",
                                        "trap 'echo stopped $RANK; exit 0' TERM; echo here $RANK; "
                                        "while :; do sleep 0.05; done"};

#ifdef STRATA_MPI_HELLO
TEST_F(TwoNodesTest, RanksOfBothTalkThroughTheNetwork) {
  Running node_1(Node(1, 1, 2, {STRATA_MPI_HELLO}), directory_, home_);
  const Finished node_0 = RunProgram(Node(0, 0, 1, {STRATA_MPI_HELLO}), directory_, home_);
  const Finished finished = node_1.Wait();
  EXPECT_EQ(node_0.exit_code, 0) << node_0.err;
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(LinesOf(node_0.out),
              UnorderedElementsAre("hello from rank 0 (RANK 0) of 3, 1 on this node, sum 3",
                                   "[1] hello from rank 1 (RANK 1) of 3, 2 on this node, sum 3",
                                   "[2] hello from rank 2 (RANK 2) of 3, 2 on this node, sum 3"));
  EXPECT_THAT(finished.out, IsEmpty());
  EXPECT_THAT(ReadText(directory_ + "/logs-1/rank-2.log"), HasSubstr("hello from rank 2"));
}

TEST_F(TwoNodesTest, ARankThatLeavesOthersInACollectiveEndsThemAll) {
  Running node_1(Node(1, 1, 1, {STRATA_MPI_HELLO, "leave"}), directory_, home_);
  const Finished node_0 = RunProgram(Node(0, 0, 1, {STRATA_MPI_HELLO, "leave"}), directory_, home_);
  const Finished finished = node_1.Wait();
  EXPECT_EQ(node_0.exit_code, 9);
  EXPECT_EQ(finished.exit_code, 9);
  EXPECT_THAT(node_0.err, HasSubstr("\nerror: rank 1 on node-1-of-1"));
}
#endif

// Ranks of both train together, through TCP between the nodes.
class TwoNodesTrainingTest : public TwoNodesTest {
 protected:
#ifndef STRATA_MPI_HELLO
  void SetUp() override {
    if (comm_ == "mpi") GTEST_SKIP() << "this build has no MPI";
    TwoNodesTest::SetUp();
  }
#endif
  static std::vector<std::string> Train(const std::string& config) {
    return {
        STRATA_PROGRAM, "train", config, "--resume", "--json", "--set", "train.train_batch_size=4"};
  }
  std::string ConfigIn(const std::string& folder) const {
    return tools::WriteTinyConfig(directory_ + "/" + folder, 40);
  }
  // As many ranks on one node: the last state's hash.
  std::string HashOnOneNode(int num_ranks) {
    std::vector<std::string> words = {STRATA_PROGRAM, "launch", "--nproc-per-node",
                                      std::to_string(num_ranks), "--"};
    const std::vector<std::string> train = Train(ConfigIn("one"));
    words.insert(words.end(), train.begin() + 1, train.end());
    const Finished one = RunProgram(words, directory_, home_);
    EXPECT_EQ(one.exit_code, 0) << one.err;
    return tools::JsonValue(one.out, "state_hash");
  }
  std::string HashOnTwoNodes(const std::string& folder, int num_ranks) {
    const std::vector<std::string> train = Train(ConfigIn(folder));
    Running node_1(Node(1, 1, num_ranks / 2, train), directory_, home_);
    const Finished node_0 = RunProgram(Node(0, 0, num_ranks / 2, train), directory_, home_);
    EXPECT_EQ(node_0.exit_code, 0) << node_0.err;
    EXPECT_EQ(node_1.Wait().exit_code, 0);
    return tools::JsonValue(node_0.out, "state_hash");
  }
};

class TwoNodesTrainingBothWaysTest : public TwoNodesTrainingTest,
                                     public testing::WithParamInterface<const char*> {
 protected:
  TwoNodesTrainingBothWaysTest() {
    comm_ = GetParam();
    has_own_processes_ = comm_ == "tcp";
  }
};
INSTANTIATE_TEST_SUITE_P(Comm, TwoNodesTrainingBothWaysTest, kBothWays, kName);

TEST_P(TwoNodesTrainingBothWaysTest, EndsWithTheBitsOfOneNode) {
  for (const int num_ranks : {2, 4}) {
    const std::string folder = "two-" + std::to_string(num_ranks);
    std::filesystem::remove_all(directory_ + "/one");
    const std::string hash = HashOnOneNode(num_ranks);
    EXPECT_FALSE(hash.empty());
    EXPECT_EQ(HashOnTwoNodes(folder, num_ranks), hash) << num_ranks << " ranks";
  }
}

class TwoNodesWithoutMpiTest : public TwoNodesTrainingTest {
 protected:
  TwoNodesWithoutMpiTest() { comm_ = "tcp"; }
};

// As containers of one host may: two networks, and one memory.
TEST_F(TwoNodesWithoutMpiTest, NodesThatSeeEachOthersProcessesTakeTheNetworkToMeet) {
  const std::string hash = HashOnOneNode(4);
  EXPECT_EQ(HashOnTwoNodes("containers", 4), hash);
}

// Who has a way to start MPI jobs needs no launcher of ours.
TEST_F(TwoNodesTrainingTest, UnderABareMpirunThroughTcpEndsWithTheBitsOfOneNode) {
  WriteRemoteShell();
  for (const int num_ranks : {2, 4}) {
    std::filesystem::remove_all(directory_ + "/one");
    const std::string hash = HashOnOneNode(num_ranks);
    EXPECT_FALSE(hash.empty());
    const std::string slots = ":" + std::to_string(num_ranks / 2);
    std::vector<std::string> words = In(0, "near");
    for (const std::string& word : std::vector<std::string>{
             "mpirun", "--host", "near" + slots + ",far-away" + slots, "--mca", "plm_rsh_agent",
             directory_ + "/ssh", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include",
             "10.99.0.0/24", "--mca", "oob_tcp_if_include", "10.99.0.0/24", "--oversubscribe",
             "--allow-run-as-root"})
      words.push_back(word);
    for (const std::string& word : Train(ConfigIn("bare-" + std::to_string(num_ranks))))
      words.push_back(word);
    const Finished finished = RunProgram(words, directory_, home_);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    EXPECT_EQ(tools::JsonValue(finished.out, "state_hash"), hash) << num_ranks << " ranks";
  }
  EXPECT_THAT(ReadText(directory_ + "/asked"), HasSubstr("orted"));
}

// The cable is pulled: both sides end, and the run goes on once it is back.
TEST_P(TwoNodesTrainingBothWaysTest, ANetworkThatGoesAwayCostsNothingCommitted) {
  const std::string hash = HashOnOneNode(2);
  const std::vector<std::string> train = Train(ConfigIn("cut"));
  Running node_1(Node(1, 1, 1, train), directory_, home_);
  Running node_0(Node(0, 0, 1, train), directory_, home_);
  ASSERT_TRUE(node_0.SaysOnOut("{\"step\":5,")) << node_0.err();
  ASSERT_TRUE(Succeeds("ip -n " + Namespace(1) + " link set stl1 down"));
  const Finished first = node_0.Wait();
  const Finished second = node_1.Wait();
  EXPECT_NE(first.exit_code, 0);
  EXPECT_NE(second.exit_code, 0);
  // The launchers see it, and over TCP the ranks, which may be first.
  const size_t last = first.err.rfind("\nerror: ");
  ASSERT_NE(last, std::string::npos) << first.err;
  EXPECT_THAT(first.err.substr(last), AnyOf(AllOf(HasSubstr("node-1-of-1"), HasSubstr("was lost")),
                                            HasSubstr("rank 1 (on node-1-of-1) has ended: ")));
  EXPECT_THAT(second.err, HasSubstr("lost node 0"));
  ASSERT_TRUE(Succeeds("ip -n " + Namespace(1) + " link set stl1 up"));
  EXPECT_EQ(HashOnTwoNodes("cut", 2), hash);
}

TEST_P(TwoNodesBothWaysTest, AFailureOnOneIsTheLastWordOnBoth) {
  const std::vector<std::string> command = {
      "/bin/sh", "-c", "if [ $RANK = 1 ]; then echo 'error: disk' >&2; exit 6; fi; sleep 1000"};
  Running node_1(Node(1, 1, 1, command), directory_, home_);
  const Finished node_0 = RunProgram(Node(0, 0, 1, command), directory_, home_);
  const Finished finished = node_1.Wait();
  EXPECT_EQ(node_0.exit_code, 6);
  EXPECT_EQ(finished.exit_code, 6);
  for (const std::string& err : {node_0.err, finished.err}) {
    EXPECT_THAT(err.substr(err.rfind("error: rank")),
                AllOf(HasSubstr("rank 1 on node-1-of-1"), HasSubstr("exit code 6"),
                      HasSubstr("error: disk"), HasSubstr("logs-1/rank-1.log")));
  }
}

TEST_P(TwoNodesBothWaysTest, RanksRunWhereTheLauncherOfTheirNodeWasStarted) {
  std::filesystem::create_directories(directory_ + "/there");
  const std::vector<std::string> command = {"/bin/sh", "-c", "echo $RANK in $(basename $PWD)"};
  std::vector<std::string> words = {"sh", "-c", "cd there && exec \"$@\"", "sh"};
  for (const std::string& word : Node(1, 1, 1, command)) words.push_back(word);
  Running node_1(words, directory_, home_);
  const Finished node_0 = RunProgram(Node(0, 0, 1, command), directory_, home_);
  EXPECT_EQ(node_1.Wait().exit_code, 0);
  EXPECT_THAT(node_0.out, HasSubstr("[1] 1 in there\n"));
  EXPECT_THAT(ReadText(directory_ + "/there/logs-1/rank-1.log"), HasSubstr("1 in there"));
}

// mpirun starts its daemons through ssh.
TEST_F(TwoNodesTest, AHostfileStartsRanksOfBothThroughSsh) {
  std::ofstream(directory_ + "/hosts") << "node-0-of-0 slots=1\nfar-away slots=2\n";
  WriteRemoteShell();
  auto environment = home_;
  environment.emplace_back("PATH", directory_ + ":" + std::getenv("PATH"));
  environment.emplace_back("STRATA_TEST_EXPORTED", "it came along");
  std::vector<std::string> words = Node(0, 0, 1, {"/bin/sh"});
  words.erase(std::find(words.begin(), words.end(), "--nnodes"), words.end());
  for (const char* word :
       {"--hostfile", "hosts", "--control-address", "10.99.0.1", "-x", "STRATA_TEST_EXPORTED",
        "--program", "/bin/sh", "--", "-c",
        "echo $RANK $NODE_RANK.$LOCAL_RANK on $(hostname): $STRATA_TEST_EXPORTED"})
    words.emplace_back(word);
  const Finished finished = RunProgram(words, directory_, environment);
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(LinesOf(finished.out), UnorderedElementsAre("0 0.0 on node-0-of-0: it came along",
                                                          "[1] 1 1.0 on far-away: it came along",
                                                          "[2] 2 1.1 on far-away: it came along"));
  EXPECT_THAT(ReadText(directory_ + "/asked"),
              AllOf(HasSubstr("BatchMode=yes"), Not(HasSubstr("LAUNCH_TOKEN"))));
}

TEST_F(TwoNodesTest, AHostThatSshDoesNotReachEndsTheJobAndIsSaid) {
  std::ofstream(directory_ + "/hosts") << "node-0-of-0 slots=1\nnowhere slots=1\n";
  std::ofstream(directory_ + "/ssh")
      << "#!/bin/sh\necho 'ssh: Could not resolve hostname nowhere' >&2\n"
         "exit 255\n";
  std::filesystem::permissions(directory_ + "/ssh", std::filesystem::perms::owner_all);
  auto environment = home_;
  environment.emplace_back("PATH", directory_ + ":" + std::getenv("PATH"));
  std::vector<std::string> words = Node(0, 0, 1, {"/bin/sh"});
  words.erase(std::find(words.begin(), words.end(), "--nnodes"), words.end());
  for (const char* word : {"--hostfile", "hosts", "--control-address", "10.99.0.1", "--program",
                           "/bin/sh", "--", "-c", "true"})
    words.emplace_back(word);
  const Finished finished = RunProgram(words, directory_, environment);
  EXPECT_NE(finished.exit_code, 0);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("error: 2 of 2 ranks did not start"),
                                  HasSubstr("ssh: Could not resolve hostname nowhere")));
}

TEST_P(TwoNodesBothWaysTest, CtrlCOnAnyOfThemStopsAll) {
  for (int where : {0, 1}) {
    Running node_1(Node(1, 1, 1, kHang), directory_, home_);
    Running node_0(Node(0, 0, 1, kHang), directory_, home_);
    ASSERT_TRUE(node_0.SaysOnOut("here 0") && node_0.SaysOnOut("[1] here 1")) << node_0.err();
    (where == 0 ? node_0 : node_1).Send(SIGINT);
    const Finished first = node_0.Wait();
    EXPECT_EQ(first.exit_code, 130);
    EXPECT_EQ(node_1.Wait().exit_code, 130);
    EXPECT_THAT(first.out, AllOf(HasSubstr("stopped 0"), HasSubstr("[1] stopped 1")));
  }
}

TEST_P(TwoNodesBothWaysTest, NothingSurvivesALauncherThatIsKilledOnEither) {
  for (int where : {0, 1}) {
    Running node_1(Node(1, 1, 1, kHang), directory_, home_);
    Running node_0(Node(0, 0, 1, kHang), directory_, home_);
    ASSERT_TRUE(node_0.SaysOnOut("here 0") && node_0.SaysOnOut("[1] here 1")) << node_0.err();
    (where == 0 ? node_0 : node_1).Send(SIGKILL);
    const Finished other = (where == 0 ? node_1 : node_0).Wait();
    EXPECT_NE(other.exit_code, 0);
    EXPECT_THAT(other.err, AllOf(HasSubstr("error: "), HasSubstr("lost")));
    (where == 0 ? node_0 : node_1).Wait();
    EXPECT_THAT(LeftOver(), IsEmpty());
  }
}

// None of mpirun's: nodes agree, or say what to do.
TEST_F(TwoNodesTest, NodesThatWouldMeetInDifferentWaysAreAnError) {
  const std::vector<std::string> command = {"/bin/sh", "-c", "echo ran"};
  Running node_0(Node(0, 0, 1, command), directory_, home_);
  comm_ = "tcp";
  const Finished finished = RunProgram(Node(1, 1, 1, command), directory_, home_);
  const Finished first = node_0.Wait();
  for (const Finished& node : {first, finished}) {
    EXPECT_EQ(node.exit_code, 1);
    EXPECT_THAT(node.err, AllOf(HasSubstr("through mpi on node-rank 0"), HasSubstr("--comm tcp")));
    EXPECT_THAT(node.out, IsEmpty());
  }
}

TEST_F(TwoNodesTest, WithoutMpiAnAgentThatFailsToStartElsewhereEndsTheJobAndSaysWhy) {
  comm_ = "tcp";
  const std::vector<std::string> command = {"/bin/sh", "-c", "sleep 1000"};
  auto environment = home_;
  environment.emplace_back("LD_PRELOAD", STRATA_DYING_AGENT);
  Running node_1(Node(1, 1, 2, command), directory_, environment);
  const Finished node_0 = RunProgram(Node(0, 0, 1, command), directory_, home_);
  const Finished finished = node_1.Wait();
  for (const Finished& node : {node_0, finished}) {
    EXPECT_NE(node.exit_code, 0);
    EXPECT_THAT(
        node.err.substr(node.err.rfind("error: ")),
        AllOf(HasSubstr("node-rank 1"), HasSubstr("what starts its ranks ended with exit code 3"),
              HasSubstr("agent: out of luck")));
  }
}

TEST_F(TwoNodesTest, TwoNodesWithOneRankAreAnErrorThatNamesBoth) {
  const std::vector<std::string> command = {"/bin/sh", "-c", "echo ran"};
  Running node_0(Node(0, 0, 1, command, "3"), directory_, home_);
  ASSERT_TRUE(node_0.SaysOnErr("waiting for"));
  Running node_1(Node(1, 1, 1, command, "3"), directory_, home_);
  ASSERT_TRUE(node_1.SaysOnErr("registered with"));
  const Finished twin = RunProgram(Node(0, 1, 1, command, "3"), directory_, home_);
  EXPECT_EQ(twin.exit_code, 1);
  for (const std::string& err : {twin.err, node_0.Wait().err, node_1.Wait().err}) {
    EXPECT_THAT(err, AllOf(HasSubstr("two nodes have --node-rank 1"), HasSubstr("node-1-of-1"),
                           HasSubstr("node-1-of-0")));
  }
}

}  // namespace
}  // namespace strata::launch
