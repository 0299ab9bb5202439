// The collectives over ranks that are threads, on machines of every shape.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/engine/comm/collectives_suite.h"
#include "tests/engine/comm/thread_world.h"

namespace strata::engine {
namespace {

class CollectivesTest : public testing::TestWithParam<std::vector<uint32_t>> {
 protected:
  ThreadWorld world_ = MachinesOf(GetParam());
};

std::string ShapeName(const testing::TestParamInfo<std::vector<uint32_t>>& info) {
  std::string name;
  for (const uint32_t num : info.param) name += (name.empty() ? "" : "and") + std::to_string(num);
  return name;
}

INSTANTIATE_TEST_SUITE_P(RanksOfMachines, CollectivesTest,
                         testing::Values(std::vector<uint32_t>{1}, std::vector<uint32_t>{2},
                                         std::vector<uint32_t>{4}, std::vector<uint32_t>{1, 1},
                                         std::vector<uint32_t>{2, 2}, std::vector<uint32_t>{1, 2},
                                         std::vector<uint32_t>{3, 1, 2},
                                         std::vector<uint32_t>{1, 1, 1, 1, 1}),
                         ShapeName);

TEST_P(CollectivesTest, GiveTheBitsOfAPlainLoopInRankOrder) {
  RunRanks(world_, [](Communicator& communicator) { CheckEveryCollective(communicator); });
}

TEST_P(CollectivesTest, OnTwoChannelsAtOnceDoNotMeet) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    RunRanks(world_,
             [seed](Communicator& communicator) { CheckRandomSequences(communicator, seed, 40); });
  }
}

TEST_P(CollectivesTest, MoveAsManyBytesAsTheoryNeeds) {
  RunRanks(world_, [](Communicator& communicator) { CheckTraffic(communicator); });
}

}  // namespace
}  // namespace strata::engine
