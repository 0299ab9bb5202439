#include "prefetch/internal/arena_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace strata::prefetch::internal {
namespace {

using ::testing::ElementsAre;

constexpr BlockId kA{0}, kB{1}, kC{2}, kD{3};

SlotHistory WrittenBy(NodeIndex node) {
  SlotHistory history;
  history.SetWriter(node);
  return history;
}

std::vector<NodeIndex> AllOf(const SlotHistory& history) {
  std::vector<NodeIndex> nodes;
  history.AppendAll(&nodes);
  return nodes;
}

// 100 bytes: a, b, c and d of 25 each.
class ArenaMapTest : public ::testing::Test {
 protected:
  ArenaMapTest() {
    for (BlockId block : {kA, kB, kC, kD}) arena_.Take({Index(block) * 25, 25}, block);
  }
  Search For(uint64_t size_bytes) {
    return {.size_bytes = size_bytes, .cost = [this](BlockId block) {
              auto found = losses_.find(block);
              return found == losses_.end() ? EvictionCost{.is_possible = false}
                                            : EvictionCost{.loss = found->second};
            }};
  }
  std::optional<uint64_t> OffsetFor(const Search& search) {
    std::optional<Range> range = arena_.Find(search);
    return range ? std::optional(range->offset_bytes) : std::nullopt;
  }

  ArenaMap arena_{0, 100};
  std::map<BlockId, double> losses_;  // others cannot be evicted
};

TEST_F(ArenaMapTest, FindsNothingWhereNothingIsFreeOrMayGo) {
  EXPECT_EQ(OffsetFor(For(25)), std::nullopt);
  losses_ = {{kA, 1}, {kC, 1}};
  EXPECT_EQ(OffsetFor(For(26)), std::nullopt);  // two, but not next to each other
}

TEST_F(ArenaMapTest, WhatARangeLosesBesideItsTenantsCountsAsTheirs) {
  losses_ = {{kA, 1}, {kC, 4}};
  Search search = For(25);
  search.toll = [](const Range& range) { return range.offset_bytes == 0 ? 5.0 : 0.0; };
  EXPECT_EQ(OffsetFor(search), 50u);
  losses_[kC] = 9;
  EXPECT_EQ(OffsetFor(search), 0u);
}

TEST_F(ArenaMapTest, TakesTheNeighboursWithTheLeastLossTogether) {
  losses_ = {{kA, 1}, {kB, 9}, {kC, 4}, {kD, 4}};
  EXPECT_EQ(OffsetFor(For(25)), 0u);
  EXPECT_EQ(OffsetFor(For(50)), 50u);
  EXPECT_THAT(arena_.TenantsOf({50, 50}), ElementsAre(kC, kD));
}

TEST_F(ArenaMapTest, PrefersFreeBytesToAnyEvictionAndTheTighterFitAmongThem) {
  losses_ = {{kA, 1}};
  arena_.Free(25, {}, 0);
  EXPECT_EQ(OffsetFor(For(20)), 25u);
  arena_.Free(75, {}, 0);
  arena_.Take({75, 5}, kD);
  EXPECT_EQ(OffsetFor(For(20)), 80u);
}

TEST_F(ArenaMapTest, PrefersBytesThatWereFreedLongAgo) {
  arena_.Free(25, {}, /*last_use=*/8);
  arena_.Free(75, {}, /*last_use=*/2);
  EXPECT_EQ(OffsetFor(For(25)), 75u);
  Search settled = For(25);
  settled.ready_op = 8;  // both are old
  EXPECT_EQ(OffsetFor(settled), 25u);
}

TEST_F(ArenaMapTest, LeavesTheReserve) {
  arena_.Free(25, {}, 0);
  Search search = For(20);
  search.reserve_bytes = 5;
  EXPECT_EQ(OffsetFor(search), 25u);
  search.reserve_bytes = 6;
  EXPECT_EQ(OffsetFor(search), std::nullopt);
}

TEST_F(ArenaMapTest, APreferredPlaceMayCostALittleMore) {
  losses_ = {{kA, 1}, {kD, 3}};
  Search search = For(25);
  search.preferred_offset_bytes = 75;
  EXPECT_EQ(OffsetFor(search), 0u);
  search.preferred_gain = 2;
  EXPECT_EQ(OffsetFor(search), 75u);
}

TEST_F(ArenaMapTest, ANewTenantInheritsOnlyTheHistoriesOfItsOwnBytes) {
  arena_.Free(0, WrittenBy(10), 0);
  arena_.Free(25, WrittenBy(11), 0);
  arena_.Free(50, WrittenBy(12), 0);
  EXPECT_THAT(AllOf(arena_.Take({10, 30}, kA)), ElementsAre(10, 11));
  EXPECT_THAT(AllOf(arena_.Take({40, 20}, kB)), ElementsAre(11, 12));
  EXPECT_THAT(AllOf(arena_.Take({0, 10}, kC)), ElementsAre(10));
}

TEST(SlotHistoryTest, TheNextTenantWaitsForTheReadersElseForTheWriter) {
  SlotHistory history = WrittenBy(3);
  EXPECT_THAT(AllOf(history), ElementsAre(3));
  history.AddReader(5, Lane::kCompute);
  history.AddReader(7, Lane::kCompute);  // the lane is serial: 7 stands for 5
  history.AddReader(6, Lane::kNvmeWrite);
  EXPECT_THAT(AllOf(history), ElementsAre(6, 7));
}

}  // namespace
}  // namespace strata::prefetch::internal
