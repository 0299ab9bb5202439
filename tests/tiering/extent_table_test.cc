#include "tiering/internal/extent_table.h"

#include <gmock/gmock.h>

#include <set>

#include "aio/base/units.h"

namespace strata::tiering {
namespace {

TEST(ExtentTableTest, TakesAllExtentsOfAClassAndNoneOfAnother) {
  ExtentTable table(1);
  table.Require(4_KiB, 3);
  table.Require(8_KiB, 1);
  std::set<uint64_t> offsets;
  for (int i = 0; i < 3; ++i) offsets.insert(table.extent(*table.Take(4_KiB)).offset_bytes);
  EXPECT_EQ(offsets, (std::set<uint64_t>{0, 4_KiB, 8_KiB}));
  EXPECT_FALSE(table.Take(4_KiB).has_value());
  EXPECT_EQ(table.extent(*table.Take(8_KiB)).offset_bytes, 12_KiB);
  EXPECT_FALSE(table.Take(16_KiB).has_value());
}

TEST(ExtentTableTest, AnExtentIsFreeWhenItsLastHolderDropsIt) {
  ExtentTable table(1);
  table.Require(4_KiB, 1);
  ExtentIndex index = *table.Take(4_KiB);
  table.Hold(index);
  table.Drop(index);
  EXPECT_FALSE(table.Take(4_KiB).has_value());
  EXPECT_EQ(table.held_bytes(), 4_KiB);
  table.Drop(index);
  EXPECT_EQ(table.held_bytes(), 0u);
  EXPECT_TRUE(table.Take(4_KiB).has_value());
  EXPECT_EQ(table.peak_bytes(), 4_KiB);
}

TEST(ExtentTableTest, SpreadsRoomAndWhatIsTakenOverTheDirectoriesByBytes) {
  ExtentTable table(2);
  table.Require(64_KiB, 6);
  table.Require(4_KiB, 32);
  EXPECT_EQ(table.end_bytes()[0], table.end_bytes()[1]);
  std::vector<uint64_t> taken(2, 0);
  for (int i = 0; i < 3; ++i) {
    taken[table.extent(*table.Take(64_KiB)).directory] += 64_KiB;
    for (int j = 0; j < 8; ++j) taken[table.extent(*table.Take(4_KiB)).directory] += 4_KiB;
  }
  // Each extent goes to the emptier directory, so they differ by one large extent at most.
  uint64_t difference = taken[0] > taken[1] ? taken[0] - taken[1] : taken[1] - taken[0];
  EXPECT_LE(difference, 64_KiB);
}

TEST(ExtentTableTest, IsRebuiltFromItsSegmentsAndGrowsAtTheEnds) {
  ExtentTable before(2);
  before.Require(8_KiB, 3);
  ExtentTable after(2);
  ASSERT_TRUE(after.AddSegments(before.segments()).ok());
  EXPECT_EQ(after.end_bytes(), before.end_bytes());
  after.Require(8_KiB, 5);
  after.Require(4_KiB, 1);
  for (uint32_t i = 0; i < 3; ++i) {
    const Extent& extent = before.extent(ExtentIndex{i});
    auto found = after.Find(extent);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(after.extent(*found).offset_bytes, extent.offset_bytes);
  }
  EXPECT_EQ(after.end_bytes()[0] + after.end_bytes()[1], 5 * 8_KiB + 4_KiB);
}

TEST(ExtentTableTest, ScratchIsBehindAllThatIsDurableAndNotFoundAsSuch) {
  ExtentTable table(1);
  table.Require(4_KiB, 2);
  ExtentIndex scratch = table.AddScratch(4_KiB);
  EXPECT_EQ(table.extent(scratch).offset_bytes, 8_KiB);
  EXPECT_FALSE(table.Find(table.extent(scratch)).has_value());
  table.Hold(scratch);
  table.Drop(scratch);
  for (int i = 0; i < 2; ++i) EXPECT_NE(*table.Take(4_KiB), scratch);
  EXPECT_FALSE(table.Take(4_KiB).has_value());
}

TEST(ExtentTableTest, SegmentsThatCannotBeAreDataLoss) {
  const std::vector<ExtentSegment> bad = {
      {1, 4096, 0, 1},     // a directory that is not there
      {0, 4096, 4096, 1},  // a gap
      {0, 0, 0, 1},
      {0, 100, 0, 1},            // no extent size
      {0, 4096, 0, UINT64_MAX},  // more than any drive holds
      {0, UINT64_MAX - 4095, 0, 1},
  };
  for (const ExtentSegment& segment : bad)
    EXPECT_EQ(ExtentTable(1).AddSegments({segment}).code(), Code::kDataLoss)
        << segment.directory << ' ' << segment.extent_bytes << ' ' << segment.offset_bytes;
}

}  // namespace
}  // namespace strata::tiering
