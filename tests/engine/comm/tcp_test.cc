// Ranks that meet over TCP, as threads of this process; mpi_faults_test.cc does it with processes
// that die, too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "aio/base/address.h"
#include "engine/comm/internal/ranked_communicator.h"
#include "engine/comm/tcp/rendezvous.h"
#include "engine/comm/tcp/tcp_transport.h"
#include "tests/engine/comm/collectives_suite.h"
#include "tests/engine/comm/free_port.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

struct Shape {
  uint32_t num_ranks = 0;
  uint32_t ranks_per_pretended_node = 0;
};

class TcpTest : public testing::TestWithParam<Shape> {
 protected:
  void RunOverTcp(const std::function<void(Communicator&)>& body) {
    const uint16_t port = FreePort();
    const CommunicatorOptions options{.ranks_per_pretended_node =
                                          GetParam().ranks_per_pretended_node};
    std::vector<std::jthread> threads;
    for (uint32_t rank = 0; rank < GetParam().num_ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const RankEnvironment environment{.rank = rank,
                                          .world_size = GetParam().num_ranks,
                                          .master_addr = "127.0.0.1",
                                          .control_port = port};
        body(*OrDie(MakeCommunicator(environment, options)));
      });
    }
  }
};

INSTANTIATE_TEST_SUITE_P(RanksOfNodes, TcpTest,
                         testing::Values(Shape{2, 0}, Shape{3, 1}, Shape{6, 3}),
                         [](const auto& shape) {
                           return std::to_string(shape.param.num_ranks) + "by" +
                                  std::to_string(shape.param.ranks_per_pretended_node);
                         });

TEST_P(TcpTest, GivesTheBitsOfAPlainLoopInRankOrder) {
  RunOverTcp([](Communicator& communicator) { CheckEveryCollective(communicator); });
}

TEST_P(TcpTest, OnTwoChannelsAtOnceDoNotMeet) {
  RunOverTcp([](Communicator& communicator) {
    for (uint64_t seed = 1; seed <= 2; ++seed) CheckRandomSequences(communicator, seed, 40);
  });
}

TEST_P(TcpTest, MovesAsManyBytesAsTheoryNeeds) {
  RunOverTcp([](Communicator& communicator) { CheckTraffic(communicator); });
}

TEST_P(TcpTest, SaysWhatItIs) {
  RunOverTcp([](Communicator& communicator) {
    EXPECT_THAT(communicator.description(),
                AllOf(testing::StartsWith("tcp: "), HasSubstr("(TCP connections)")));
  });
}

class RendezvousTest : public testing::Test {
 protected:
  RendezvousOptions Of(uint32_t rank) const {
    return {.rank = rank,
            .world_size = 3,
            .host = "127.0.0.1",
            .port = port_,
            .build = "this one",
            .machine = rank < 2 ? "first" : "second",
            .deadline = milliseconds(2'000)};
  }
  // Each with what `change` makes of its options.
  std::map<uint32_t, Result<Introductions>> Meet(
      const std::vector<uint32_t>& ranks,
      const std::function<void(size_t, RendezvousOptions*)>& change = [](size_t, auto*) {}) {
    std::map<uint32_t, Result<Introductions>> met;
    std::mutex mutex;
    {
      std::vector<std::jthread> threads;
      for (uint32_t i = 0; i < ranks.size(); ++i) {
        threads.emplace_back([&, i] {
          RendezvousOptions options = Of(ranks[i]);
          change(i, &options);
          Result<Introductions> one = MeetOverTcp(options);
          std::lock_guard lock(mutex);
          met.emplace(i, std::move(one));
        });
      }
    }
    return met;
  }

  const uint16_t port_ = FreePort();
};

TEST_F(RendezvousTest, AllAreConnectedToAllAndKnowWhoIsOnWhichMachine) {
  for (const auto& [rank, met] : Meet({0, 1, 2})) {
    ASSERT_TRUE(met.ok()) << met.status().ToString();
    EXPECT_EQ(met->first_rank_of_machine, (std::vector<uint32_t>{0, 0, 2}));
    for (uint32_t other = 0; other < 3; ++other)
      EXPECT_EQ(met->connections[other].is_open(), other != rank);
  }
}

TEST_F(RendezvousTest, WhoConnectsByChanceIsSentAway) {
  std::jthread strangers([&] {
    for (const char* words : {"GET / HTTP/1.1\r\n\r\n", "", "strata"}) {
      Result<Descriptor> stranger = Unavailable("not yet");
      while (!stranger.ok())
        stranger = ConnectTo(TcpAddress("127.0.0.1", port_), milliseconds(100));
      static_cast<void>(send(stranger->get(), words, strlen(words), MSG_NOSIGNAL));
    }
  });
  for (const auto& [i, met] : Meet({0, 1, 2}, [](size_t i, RendezvousOptions*options) {
         options->deadline = milliseconds(30'000);
         if (i == 1) std::this_thread::sleep_for(milliseconds(50));  // strangers first
       }))
    EXPECT_TRUE(met.ok()) << met.status().ToString();
}

TEST_F(RendezvousTest, ARankThatDoesNotComeIsNamedToAll) {
  for (const auto& [i, met] : Meet({0, 1})) {
    EXPECT_THAT(met.status().message(), AllOf(HasSubstr("waited 2 s in vain for 1 of 3 ranks: 2"),
                                              HasSubstr("STRATA_MASTER_PORT")));
  }
}

TEST_F(RendezvousTest, WithoutRankZeroTheOthersSayWhereTheyLookedForIt) {
  for (const auto& [i, met] : Meet({1, 2})) {
    EXPECT_EQ(met.status().code(), Code::kDeadlineExceeded);
    EXPECT_THAT(met.status().message(),
                AllOf(HasSubstr("127.0.0.1:" + std::to_string(port_)), HasSubstr("rank 0"),
                      HasSubstr("Connection refused")));
  }
}

TEST_F(RendezvousTest, APortInUseIsAnErrorThatSaysWhatToSet) {
  const Descriptor taken = OrDie(ListenOn(TcpAddress("127.0.0.1", port_)));
  for (const auto& [i, met] : Meet({0})) {
    EXPECT_EQ(met.status().code(), Code::kFailedPrecondition);
    EXPECT_THAT(met.status().message(),
                AllOf(HasSubstr("port " + std::to_string(port_)), HasSubstr("is in use"),
                      HasSubstr("STRATA_MASTER_PORT")));
  }
}

TEST_F(RendezvousTest, RankZeroElsewhereThanMasterAddrIsAnError) {
  for (const auto& [i, met] : Meet({0}, [](size_t, auto* o) { o->host = "203.0.113.77"; })) {
    EXPECT_THAT(met.status().message(), AllOf(HasSubstr("MASTER_ADDR '203.0.113.77' is not this"),
                                              HasSubstr("rank 0 must be started")));
  }
  for (const auto& [i, met] : Meet({1}, [](size_t, auto* o) { o->host = "no-such.invalid"; }))
    EXPECT_THAT(met.status().message(), HasSubstr("host 'no-such.invalid' is not known here"));
}

TEST_F(RendezvousTest, TwoOfOneRankAreNamed) {
  std::string all;
  for (const auto& [i, met] : Meet({0, 1, 1})) all += met.status().message() + "\n";
  EXPECT_THAT(all, HasSubstr("two processes say that they are rank 1, on "));
}

TEST_F(RendezvousTest, RanksOfAnotherJobAreRefused) {
  for (const auto& [i, met] : Meet({0, 1, 2}, [](size_t i, auto*o) {
         if (i == 1) o->world_size = 4;
       }))
    EXPECT_THAT(met.status().message(), HasSubstr("it is rank 1 of 4, and this job has 3"));
}

TEST_F(RendezvousTest, RanksOfAnotherBuildAreRefused) {
  for (const auto& [i, met] : Meet({0, 2, 1}, [](size_t i, auto*o) {
         if (i == 1) o->build = "that one";
       }))
    EXPECT_THAT(met.status().message(), HasSubstr("rank 2 on "));
}

}  // namespace
}  // namespace strata::engine
