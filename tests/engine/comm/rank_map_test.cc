#include "engine/comm/internal/rank_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/or_die.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(RankMapTest, RanksOfAMachineAreANode) {
  const std::vector<uint32_t> machines = {0, 0, 0, 3, 4, 4};
  const RankMap ranks = OrDie(RankMap::Create(4, machines, 0));
  EXPECT_EQ(ranks.num_nodes(), 3u);
  EXPECT_EQ(ranks.node(), 2u);
  EXPECT_EQ(ranks.local_rank(), 0u);
  EXPECT_EQ(ranks.local_size(), 2u);
  EXPECT_EQ(ranks.node_of(2), 0u);
  EXPECT_EQ(ranks.node_of(3), 1u);
  EXPECT_TRUE(ranks.is_local(5));
  EXPECT_FALSE(ranks.is_local(3));
}

TEST(RankMapTest, ReceivingForTheNodeIsSharedByItsRanks) {
  const std::vector<uint32_t> machines = {0, 0, 0, 3, 4, 4};
  const RankMap ranks = OrDie(RankMap::Create(4, machines, 0));
  EXPECT_THAT(ranks.served_by(4), ElementsAre(0, 2, 3));
  EXPECT_THAT(ranks.served_by(5), ElementsAre(1));
  EXPECT_THAT(ranks.served_by(3), ElementsAre(0, 1, 2, 4, 5));
  EXPECT_EQ(ranks.max_served(), 5u);
}

TEST(RankMapTest, AMachineIsCutIntoPretendedNodes) {
  const std::vector<uint32_t> machines = {0, 0, 0, 3, 3};
  const RankMap ranks = OrDie(RankMap::Create(3, machines, 2));
  EXPECT_EQ(ranks.num_nodes(), 3u);
  EXPECT_EQ(ranks.size_of(0), 2u);
  EXPECT_EQ(ranks.size_of(1), 1u);
  EXPECT_EQ(ranks.node(), 2u);
}

TEST(RankMapTest, RanksDealtOutToMachinesInTurnAreRefused) {
  const std::vector<uint32_t> machines = {0, 1, 0, 1};
  const Status status = RankMap::Create(0, machines, 0).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 2"), HasSubstr("--map-by slot")));
}

}  // namespace
}  // namespace strata::engine
