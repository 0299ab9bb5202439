// One launcher per node: what goes wrong before anything runs, with all launchers on this machine.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "aio/base/check.h"
#include "tests/tools/launch/launch_fixture.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A TCP socket of this machine, on a port of the kernel's choice.
class TestSocket {
 public:
  TestSocket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    STRATA_CHECK(fd_ >= 0 && bind(fd_, AddressOf(0), sizeof(sockaddr_in)) == 0);
    socklen_t size = sizeof address_;
    STRATA_CHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&address_), &size) == 0);
  }
  ~TestSocket() { close(fd_); }
  TestSocket(const TestSocket&) = delete;
  void Listen() { STRATA_CHECK(listen(fd_, 8) == 0); }
  int fd() const { return fd_; }
  uint16_t port() const { return ntohs(address_.sin_port); }
  const sockaddr* AddressOf(uint16_t port) {
    address_ = {};
    address_.sin_family = AF_INET;
    address_.sin_port = htons(port);
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return reinterpret_cast<const sockaddr*>(&address_);
  }

 private:
  sockaddr_in address_ = {};
  int fd_;
};

uint16_t FreePort() { return TestSocket().port(); }

std::string ReceiveAll(int fd, size_t num_bytes) {
  std::string text(num_bytes, '\0');
  const ssize_t count = recv(fd, text.data(), num_bytes, MSG_WAITALL);
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return text;
}

class NodeStartTest : public LaunchFixture {
 protected:
  std::vector<std::string> Node(int rank, const std::vector<std::string>& more = {},
                                const std::string& nnodes = "2") const {
    std::vector<std::string> words = {STRATA_PROGRAM,  "launch",
                                      "--nnodes",      nnodes,
                                      "--node-rank",   std::to_string(rank),
                                      "--master-addr", "127.0.0.1",
                                      "--master-port", std::to_string(port_),
                                      "--program",     "/bin/sh",
                                      "--log-dir",     "logs-" + std::to_string(rank)};
    words.insert(words.end(), more.begin(), more.end());
    if (std::find(more.begin(), more.end(), "--") == more.end())
      words.insert(words.end(), {"--", "-c", "touch ran-$RANK"});
    return words;
  }
  // Both nodes to their ends.
  std::pair<Finished, Finished> Both(const std::vector<std::string>& first,
                                     const std::vector<std::string>& second) {
    Running node_0(first, directory_, home_);
    Running node_1(second, directory_, home_);
    return {node_0.Wait(), node_1.Wait()};
  }
  bool SomethingRan() const {
    return std::filesystem::exists(directory_ + "/ran-0") ||
           std::filesystem::exists(directory_ + "/ran-1");
  }
  // Both must fail, say why, and have run nothing.
  void ExpectBothSay(const std::pair<Finished, Finished>& nodes,
                     const testing::Matcher<std::string>& error) {
    EXPECT_EQ(nodes.first.exit_code, 1);
    EXPECT_EQ(nodes.second.exit_code, 1);
    EXPECT_THAT(nodes.first.err, AllOf(HasSubstr("error: "), error));
    EXPECT_THAT(nodes.second.err, AllOf(HasSubstr("error: "), error));
    EXPECT_FALSE(SomethingRan());
  }

  const uint16_t port_ = FreePort();
  const std::vector<std::pair<std::string, std::string>> home_ = {{"HOME", directory_},
                                                                  {"XDG_CONFIG_HOME", ""}};
};

TEST_F(NodeStartTest, AMissingNodeIsNamedWhileItIsWaitedForAndAfter) {
  const Finished finished = RunProgram(Node(0, {"--wait", "1"}, "3"), directory_, home_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("launch: waiting for 2 of 3 nodes: node-rank 1-2"),
                                  HasSubstr("error: waited 1 s in vain for 2 of 3 nodes")));
}

TEST_F(NodeStartTest, AMissingNodeZeroIsNamed) {
  const Finished finished = RunProgram(Node(1, {"--wait", "1"}), directory_, home_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("launch: waiting for node 0 at 127.0.0.1"),
                    HasSubstr("error: cannot reach node 0"), HasSubstr("Connection refused")));
}

TEST_F(NodeStartTest, APortInUseIsNamed) {
  TestSocket other;
  other.Listen();
  std::vector<std::string> words = Node(0, {"--wait", "1"});
  *(std::find(words.begin(), words.end(), "--master-port") + 1) = std::to_string(other.port());
  const Finished finished = RunProgram(words, directory_, home_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("port " + std::to_string(other.port()) + " is in use"),
                                  HasSubstr("--master-port")));
}

TEST_F(NodeStartTest, NodeZeroOnAnotherMachineThanItsAddressSaysSo) {
  std::vector<std::string> words = Node(0);
  *(std::find(words.begin(), words.end(), "--master-addr") + 1) = "203.0.113.77";  // RFC 5737
  const Finished finished = RunProgram(words, directory_, home_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err,
              AllOf(HasSubstr("'203.0.113.77' is not this machine"), HasSubstr("node-rank 0")));
}

TEST_F(NodeStartTest, AHostNameThatNobodyKnowsIsNamed) {
  std::vector<std::string> words = Node(1, {"--wait", "1"});
  *(std::find(words.begin(), words.end(), "--master-addr") + 1) = "no-such-host.invalid";
  const Finished finished = RunProgram(words, directory_, home_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("host 'no-such-host.invalid' is not known here"));
}

TEST_F(NodeStartTest, DifferentNumbersOfNodesAreAnErrorOnBoth) {
  ExpectBothSay(Both(Node(0), Node(1, {}, "3")),
                AllOf(HasSubstr("--nnodes 2"), HasSubstr("has 3")));
}

TEST_F(NodeStartTest, DifferentCommandsAreAnErrorOnBoth) {
  ExpectBothSay(Both(Node(0), Node(1, {"--", "-c", "touch ran-$RANK; true"})),
                HasSubstr("ran-$RANK; true"));
}

TEST_F(NodeStartTest, DifferentConfigurationsAreAnErrorOnBoth) {
  std::filesystem::create_directories(directory_ + "/a");
  std::filesystem::create_directories(directory_ + "/b");
  std::ofstream(directory_ + "/a/run.toml") << "touch ran-0 # 1\n";
  std::ofstream(directory_ + "/b/run.toml") << "touch ran-1 # 2\n";
  const auto in = [&](const char* folder, int rank) {
    std::vector<std::string> words = Node(rank, {"--", "run.toml"});
    words.insert(words.begin(),
                 {"sh", "-c", std::string("cd ") + folder + " && exec \"$@\"", "sh"});
    return words;
  };
  ExpectBothSay(Both(in("a", 0), in("b", 1)),
                AllOf(HasSubstr("run.toml"), HasSubstr("not the same")));
}

TEST_F(NodeStartTest, OneMachineTwiceIsAnErrorOnBoth) {
  ExpectBothSay(Both(Node(0), Node(1)), HasSubstr("are the same machine"));
}

TEST_F(NodeStartTest, ANodeOfAnotherJobIsTurnedAwayAndTheJobWaitsOn) {
  Running node_0(Node(0, {"--rdzv-id", "mine", "--wait", "3"}), directory_, home_);
  ASSERT_TRUE(node_0.SaysOnErr("waiting for"));
  const Finished node_1 =
      RunProgram(Node(1, {"--rdzv-id", "other", "--wait", "3"}), directory_, home_);
  EXPECT_EQ(node_1.exit_code, 1);
  EXPECT_THAT(node_1.err, AllOf(HasSubstr("'mine'"), HasSubstr("'other'")));
  const Finished finished = node_0.Wait();
  EXPECT_THAT(finished.err, HasSubstr("error: waited 3 s"));
}

TEST_F(NodeStartTest, ANodeWithoutTheSecretIsTurnedAwayAndToldWhatToDo) {
  auto other = home_;
  other.emplace_back("STRATA_LAUNCH_SECRET", "another secret entirely");
  Running node_0(Node(0, {"--wait", "3"}), directory_, home_);
  ASSERT_TRUE(node_0.SaysOnErr("waiting for"));
  const Finished node_1 = RunProgram(Node(1, {"--wait", "3"}), directory_, other);
  EXPECT_EQ(node_1.exit_code, 1);
  EXPECT_THAT(node_1.err, AllOf(HasSubstr("STRATA_LAUNCH_SECRET"), HasSubstr("secret")));
  EXPECT_THAT(node_0.Wait().err,
              AllOf(HasSubstr("refused a connection: 127.0.0.1 does not know the same secret"),
                    HasSubstr("error: waited 3 s")));
  EXPECT_FALSE(SomethingRan());
}

TEST_F(NodeStartTest, AStrangerWhoKnocksIsRefusedAndHearsNothing) {
  Running node_0(Node(0, {"--wait", "3"}), directory_, home_);
  ASSERT_TRUE(node_0.SaysOnErr("waiting for"));
  TestSocket stranger;
  ASSERT_EQ(connect(stranger.fd(), stranger.AddressOf(port_), sizeof(sockaddr_in)), 0);
  const std::string request = "GET /run?command=id HTTP/1.1\r\n\r\n";
  ASSERT_EQ(send(stranger.fd(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  EXPECT_EQ(ReceiveAll(stranger.fd(), 1), "");
  EXPECT_THAT(node_0.Wait().err, HasSubstr("refused a connection"));
}

// Whoever got hold of node 0's port before node 0 did, and wants node 1 to run a command.
TEST_F(NodeStartTest, AnImpostorOfNodeZeroGetsNothingRun) {
  TestSocket impostor;
  impostor.Listen();
  std::vector<std::string> words = Node(1, {"--wait", "3"});
  *(std::find(words.begin(), words.end(), "--master-port") + 1) = std::to_string(impostor.port());
  Running node_1(words, directory_, home_);
  const int connection = accept(impostor.fd(), nullptr, nullptr);
  ASSERT_GE(connection, 0);
  const std::string magic = "strata-launch-1 ";
  const std::string hello = ReceiveAll(connection, magic.size() + 1 + 32);
  ASSERT_EQ(hello.substr(0, magic.size()), magic);
  const std::string answer = magic + "S" + std::string(32, 'n');
  ASSERT_GT(send(connection, answer.data(), answer.size(), MSG_NOSIGNAL), 0);
  ASSERT_EQ(ReceiveAll(connection, 32).size(), 32u);  // its proof, which proves nothing for us
  // No proof of ours, a welcome and a command, with the seals of whoever does not know the secret.
  std::string attack(32, 'p');
  for (const std::string& message :
       {std::string("W"),
        R"(D{"node_rank":1,"words":["orted","-mca","ess","env"]})" + std::string()}) {
    attack += std::string("\0\0\0", 3) + static_cast<char>(message.size()) + message +
              std::string(32, 's');
  }
  (void)send(connection, attack.data(), attack.size(), MSG_NOSIGNAL);
  const Finished finished = node_1.Wait();
  close(connection);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("does not know this node's secret"),
                                  Not(HasSubstr("registered with"))));
}

TEST_F(NodeStartTest, ASecretThatOthersCanReadIsRefused) {
  const std::string path = directory_ + "/secret";
  std::ofstream(path) << "0123456789abcdef0123456789abcdef\n";
  std::filesystem::permissions(path, std::filesystem::perms(0644));
  const Finished finished =
      RunProgram(Node(0, {"--secret-file", path, "--wait", "1"}), directory_, home_);
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(finished.err, HasSubstr("chmod 600 " + path));
}

TEST_F(NodeStartTest, CtrlCWhileWaitingEndsAtOnce) {
  for (int rank : {0, 1}) {
    Running node(Node(rank), directory_, home_);
    ASSERT_TRUE(node.SaysOnErr("waiting for"));
    node.Send(SIGINT);
    EXPECT_EQ(node.Wait().exit_code, 130) << rank;
  }
}

}  // namespace
}  // namespace strata::launch
