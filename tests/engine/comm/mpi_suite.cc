// The collectives over MPI: started by mpirun, every rank runs all tests.
//
//   mpirun -n 4 engine_comm_mpi_suite PLUGIN RANKS_PER_PRETENDED_NODE [gtest options]
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "engine/comm/communicator.h"
#include "tests/engine/comm/collectives_suite.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

Communicator* g_communicator = nullptr;

TEST(MpiCollectives, GiveTheBitsOfAPlainLoopInRankOrder) { CheckEveryCollective(*g_communicator); }

TEST(MpiCollectives, OnTwoChannelsAtOnceDoNotMeet) {
  for (uint64_t seed = 1; seed <= 3; ++seed) CheckRandomSequences(*g_communicator, seed, 40);
}

TEST(MpiCollectives, MoveAsManyBytesAsTheoryNeeds) { CheckTraffic(*g_communicator); }

TEST(MpiCollectives, RunOnAsManyNodesAsAreThereOrPretended) {
  const Communicator& c = *g_communicator;
  EXPECT_EQ(c.num_nodes() * c.local_size(), c.world_size());
  EXPECT_EQ(c.node() * c.local_size() + c.local_rank(), c.rank());
}

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "usage: engine_comm_mpi_suite PLUGIN RANKS_PER_PRETENDED_NODE\n");
    return 2;
  }
  const RankEnvironment environment = OrDie(ReadRankEnvironment());
  CommunicatorOptions options;
  options.plugin = argv[1];
  options.ranks_per_pretended_node = static_cast<uint32_t>(std::atoi(argv[2]));
  const std::unique_ptr<Communicator> communicator = OrDie(MakeCommunicator(environment, options));
  g_communicator = communicator.get();
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace strata::engine

int main(int argc, char** argv) { return strata::engine::Main(argc, argv); }
