#include "tools/launch/layout.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/or_die.h"

namespace strata::launch {
namespace {

const Layout kUneven = {{"worker-0", 4, {0, 1, 2, 3}}, {"fd00::2", 8, {0, 2}}, {"c", 1, {0}}};

TEST(LaunchLayout, RanksCountThroughTheSlotsOfTheNodesInOrder) {
  EXPECT_EQ(WorldSize(kUneven), 7u);
  std::vector<std::vector<uint32_t>> places;
  for (uint32_t rank = 0; rank < 7; ++rank) {
    const RankPlace place = PlaceOf(kUneven, rank);
    places.push_back(
        {place.node_rank, place.local_rank, place.local_world_size, place.slot, place.num_slots});
  }
  EXPECT_EQ(places, (std::vector<std::vector<uint32_t>>{{0, 0, 4, 0, 4},
                                                        {0, 1, 4, 1, 4},
                                                        {0, 2, 4, 2, 4},
                                                        {0, 3, 4, 3, 4},
                                                        {1, 0, 2, 0, 8},
                                                        {1, 1, 2, 2, 8},
                                                        {2, 0, 1, 0, 1}}));
}

TEST(LaunchLayout, TextIsReadBackAsItWas) {
  EXPECT_EQ(FormatLayout(kUneven), "worker-0:4:0-3@fd00::2:8:0,2@c:1:0");
  EXPECT_EQ(OrDie(ParseLayout(FormatLayout(kUneven))), kUneven);
}

TEST(LaunchLayout, TextThatIsNoLayoutIsAnError) {
  for (const char* text : {"", "a", "a:1", ":1:0", "a:x:0", "a:1:", "a:1:3-1", "a:1:0@", "a:-1:0"})
    EXPECT_FALSE(ParseLayout(text).ok()) << text;
}

TEST(LaunchLayout, NumbersAreRangesOfNeighboursInTheirOrder) {
  EXPECT_EQ(FormatNumbers({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
  EXPECT_EQ(FormatNumbers({2, 0}), "2,0");
  EXPECT_EQ(OrDie(ParseNumbers("2,0,4-6")), (std::vector<uint32_t>{2, 0, 4, 5, 6}));
  for (const char* text : {"", "1,", "3-1", "1-", "-1", "0-4294967295", "1 "})
    EXPECT_FALSE(ParseNumbers(text).ok()) << text;
}

}  // namespace
}  // namespace strata::launch
