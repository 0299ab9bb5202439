#include "prefetch/internal/arena_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>

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
  static Search For(uint64_t size_bytes) { return {.size_bytes = size_bytes}; }
  std::optional<uint64_t> OffsetFor(const Search& search) {
    for (const auto& [block, loss] : losses_)
      arena_.SetWorth(Index(block) * 25,
                      {.may_go = true, .per_byte = loss / 25, .counts_whole = true});
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

TEST_F(ArenaMapTest, WhatIsReadLaterLosesLess) {
  for (BlockId block : {kB, kC})
    arena_.SetWorth(Index(block) * 25,
                    {.may_go = true, .per_byte = 1, .next_read = block == kB ? 9u : 29u});
  EXPECT_EQ(OffsetFor(For(25)), 50u);
  Search late = For(25);
  late.op = 29;  // both are read now
  EXPECT_EQ(OffsetFor(late), 25u);
}

TEST_F(ArenaMapTest, WhatIsNeededSoonStays) {
  arena_.SetWorth(25, {.may_go = true, .per_byte = 1, .next_read = 9});
  Search search = For(25);
  search.keep_until = 8;
  EXPECT_EQ(OffsetFor(search), 25u);
  search.keep_until = 9;
  EXPECT_EQ(OffsetFor(search), std::nullopt);
  arena_.Free(75, {}, 0);  // free bytes are nobody's
  EXPECT_EQ(OffsetFor(search), 75u);
}

// A large block must not look dear because little of it is wanted, unless all of it is lost.
TEST_F(ArenaMapTest, OnlyWantedBytesCountOfWhatCanBeReadAgain) {
  ArenaMap arena(0, 100);
  arena.Take({0, 80}, kA);
  arena.Take({80, 20}, kB);
  arena.SetWorth(0, {.may_go = true, .per_byte = 1});
  arena.SetWorth(80, {.may_go = true, .per_byte = 2});
  EXPECT_EQ(arena.Find(For(20))->offset_bytes, 0u);
  arena.SetWorth(0, {.may_go = true, .per_byte = 1, .counts_whole = true});
  EXPECT_EQ(arena.Find(For(20))->offset_bytes, 80u);
}

// The answer of every search among random segments, against one that tries every offset.
TEST(ArenaMapSearchTest, FindsWhatALookAtEveryOffsetFinds) {
  std::mt19937 random(7);
  auto below = [&](uint32_t end) { return static_cast<uint32_t>(random() % end); };
  for (int round = 0; round < 200; ++round) {
    constexpr uint64_t kEnd = 240;
    ArenaMap arena(0, kEnd);
    std::array<double, kEnd> loss_of_tenant_at{};  // at its first byte
    std::array<uint64_t, kEnd> first_byte_of{};
    for (uint64_t at = 0, id = 0; at < kEnd; ++id) {
      const uint64_t size = std::min<uint64_t>(1 + below(20), kEnd - at);
      for (uint64_t byte = at; byte < at + size; ++byte) first_byte_of[byte] = at;
      if (below(4) > 0) {
        arena.Take({at, size}, BlockId(id));
        const bool stays = below(10) == 0;
        const double loss = 1 + below(1000);
        arena.SetWorth(
            at,
            {.may_go = !stays, .per_byte = loss / static_cast<double>(size), .counts_whole = true});
        loss_of_tenant_at[at] = stays ? std::numeric_limits<double>::infinity() : loss;
      }
      at += size;
    }
    const uint64_t wanted = 1 + below(40);
    double least = std::numeric_limits<double>::infinity();
    auto loss_at = [&](uint64_t offset) {
      double loss = 0;
      for (uint64_t byte = first_byte_of[offset]; byte < offset + wanted; ++byte)
        loss += loss_of_tenant_at[byte];
      return loss;
    };
    for (uint64_t offset = 0; offset + wanted <= kEnd; ++offset)
      least = std::min(least, loss_at(offset));
    std::optional<Range> found = arena.Find({.size_bytes = wanted});
    ASSERT_EQ(found.has_value(), std::isfinite(least)) << "round " << round;
    if (!found) continue;
    EXPECT_EQ(found->size_bytes, wanted);
    // Ready bytes are worth that little; with none nearly as little, it is the least.
    EXPECT_LE(loss_at(found->offset_bytes), least * 1.15 + 1e-9) << "round " << round;
  }
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
