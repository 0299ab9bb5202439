#include "engine/comm/agreement.h"

#include <gtest/gtest.h>

#include "tests/engine/comm/thread_world.h"

namespace strata::engine {
namespace {

constexpr const char* kText = "[model]\nlayers = 2\n\n[train]\nsteps = 10\nseed = 1\n";

std::string TextOf(uint32_t rank, uint32_t other_rank, std::string text) {
  return rank == other_rank ? text : kText;
}

TEST(CheckSameOnAllRanksTest, IsFineWhenAllHaveTheSame) {
  RunRanks(MachinesOf({2, 1}), [](Communicator& communicator) {
    EXPECT_TRUE(CheckSameOnAllRanks(communicator, "the configuration", kText).ok());
    EXPECT_TRUE(CheckSameOnAllRanks(communicator, "nothing", "").ok());
  });
}

TEST(CheckSameOnAllRanksTest, TellsAllWhichRankDiffersInWhichKey) {
  RunRanks(MachinesOf({2, 1}), [](Communicator& communicator) {
    const Status status = CheckSameOnAllRanks(
        communicator, "the configuration",
        TextOf(communicator.rank(), 2, "[model]\nlayers = 2\n\n[train]\nsteps = 20\nseed = 1\n"));
    EXPECT_EQ(status.code(), Code::kFailedPrecondition);
    EXPECT_EQ(status.message(),
              "the configuration differs between ranks: [train] 'steps = 20' on rank 2, 'steps = "
              "10' on rank 0: start all ranks with the same");
  });
}

TEST(CheckSameOnAllRanksTest, ATextThatEndsEarlierDiffers) {
  RunRanks(MachinesOf({1, 1}), [](Communicator& communicator) {
    const Status status =
        CheckSameOnAllRanks(communicator, "the version",
                            TextOf(communicator.rank(), 1, "[model]\nlayers = 2\n\n[train]\n"));
    EXPECT_EQ(status.message(),
              "the version differs between ranks: [train] nothing on rank 1, 'steps = 10' on rank "
              "0: start all ranks with the same");
  });
}

}  // namespace
}  // namespace strata::engine
