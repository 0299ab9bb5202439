#include "aio/striped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using testing::ElementsAre;

std::vector<uint32_t> Counts(std::vector<double> weights) { return StripesPerRound(weights); }

TEST(StripesPerRoundTest, EqualWeightsAreOneStripeEach) {
  EXPECT_THAT(Counts({5}), ElementsAre(1));
  EXPECT_THAT(Counts({2.5, 2.5, 2.5}), ElementsAre(1, 1, 1));
}

TEST(StripesPerRoundTest, RoundsToTheShortestRoundThatIsTrueEnough) {
  EXPECT_THAT(Counts({1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(Counts({3.02e9, 0.99e9}), ElementsAre(3, 1));
  EXPECT_THAT(Counts({2, 3}), ElementsAre(2, 3));
}

TEST(StripesPerRoundTest, EverybodyGetsSomethingAndARoundStaysShort) {
  EXPECT_EQ(Counts({1e9, 1})[1], 1u);
  for (double weight = 0.01; weight < 100; weight *= 1.07) {
    std::vector<uint32_t> counts = Counts({1, weight, 0.7});
    EXPECT_LE(std::accumulate(counts.begin(), counts.end(), 0u), 64u) << weight;
  }
}

// Where each logical byte lies, found by dealing out one byte after the other.
std::vector<std::pair<size_t, uint64_t>> PlacesByteByByte(const StripeLayout& layout,
                                                          uint64_t size_bytes) {
  std::vector<std::pair<size_t, uint64_t>> places;
  std::vector<uint64_t> ends(layout.stripes_per_round().size(), 0);
  while (places.size() < size_bytes) {
    size_t file = layout.Map(places.size(), 1)[0].file;
    for (uint64_t i = 0; i < layout.stripe_bytes() && places.size() < size_bytes; ++i)
      places.emplace_back(file, ends[file]++);
  }
  return places;
}

class StripeLayoutTest : public testing::TestWithParam<std::vector<uint32_t>> {
 protected:
  StripeLayout layout_{4, GetParam()};
  // More than two rounds and a broken stripe.
  uint64_t size_bytes_ =
      4 * 2 * std::accumulate(GetParam().begin(), GetParam().end(), uint64_t{0}) + 11;
};

TEST_P(StripeLayoutTest, EveryRangeLiesWhereDealingOutByteByByteSays) {
  auto places = PlacesByteByByte(layout_, size_bytes_);
  for (uint64_t begin = 0; begin <= size_bytes_; ++begin) {
    for (uint64_t length = 0; begin + length <= size_bytes_; ++length) {
      uint64_t at = begin;
      for (const StripeLayout::Extent& extent : layout_.Map(begin, length)) {
        ASSERT_GT(extent.length_bytes, 0u);
        for (uint64_t i = 0; i < extent.length_bytes; ++i, ++at)
          ASSERT_EQ(places[at], std::pair(extent.file, extent.offset_bytes + i)) << begin;
      }
      ASSERT_EQ(at, begin + length);
    }
  }
}

TEST_P(StripeLayoutTest, AdjacentPiecesOfAFileAreOneExtent) {
  auto extents = layout_.Map(0, size_bytes_);
  for (size_t i = 1; i < extents.size(); ++i) {
    bool is_adjacent =
        extents[i - 1].file == extents[i].file &&
        extents[i - 1].offset_bytes + extents[i - 1].length_bytes == extents[i].offset_bytes;
    EXPECT_FALSE(is_adjacent);
  }
}

TEST_P(StripeLayoutTest, FilesHaveTheSizeThatTheirBytesNeed) {
  auto places = PlacesByteByByte(layout_, size_bytes_);
  std::vector<uint64_t> ends(GetParam().size(), 0);
  for (uint64_t size_bytes = 0; size_bytes <= size_bytes_; ++size_bytes) {
    for (size_t file = 0; file < ends.size(); ++file) {
      ASSERT_EQ(layout_.FileBytes(file, size_bytes), ends[file]);
      uint64_t fits_bytes = layout_.SizeThatFits(file, ends[file]);
      ASSERT_GE(fits_bytes, size_bytes);
      ASSERT_EQ(layout_.FileBytes(file, fits_bytes), ends[file]);
      ASSERT_EQ(layout_.FileBytes(file, fits_bytes + 1), ends[file] + 1);
    }
    if (size_bytes < size_bytes_) ++ends[places[size_bytes].first];
  }
}

TEST_P(StripeLayoutTest, EachRoundGivesEveryFileItsShareSpreadOut) {
  uint64_t round = std::accumulate(GetParam().begin(), GetParam().end(), uint64_t{0});
  for (size_t file = 0; file < GetParam().size(); ++file) {
    double share = static_cast<double>(GetParam()[file]) / static_cast<double>(round);
    for (uint64_t stripes = 0; stripes <= 2 * round; ++stripes) {
      double dealt = static_cast<double>(layout_.FileBytes(file, 4 * stripes)) / 4;
      // Never more than a stripe ahead of or behind what is due.
      EXPECT_NEAR(dealt, share * static_cast<double>(stripes), 1.0);
    }
  }
}

using Rounds = std::vector<uint32_t>;
INSTANTIATE_TEST_SUITE_P(Shares, StripeLayoutTest,
                         testing::Values(Rounds{1}, Rounds{3}, Rounds{1, 1}, Rounds{2, 1},
                                         Rounds{1, 3}, Rounds{5, 3, 1}, Rounds{2, 2, 3, 1}));

TEST(StripedFileTest, WhatIsWrittenToAnyRangeIsReadBack) {
  ScratchDirectory scratch;
  std::vector<File> files;
  for (const char* name : {"a", "b"}) {
    files.push_back(OrDie(File::Open(
        scratch.File(name), {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew})));
  }
  StripedFile striped(std::move(files), StripeLayout(64_KiB, {2, 1}));
  StripedFile moved = std::move(striped);
  auto engine = OrDie(IoEngine::Create({.backend = IoBackend::kPosix}));
  HugeMemory memory = OrDie(HugeMemory::Map(2_MiB));
  std::span<std::byte> out = memory.bytes().first(1_MiB), in = memory.bytes().subspan(1_MiB);
  FillWithRandomBytes(out, 1);
  ASSERT_TRUE(engine->StartWrites(moved.Writes(0, out)).Wait().ok());
  ASSERT_TRUE(engine->StartReads(moved.Reads(100 * 4_KiB, in.first(300_KiB))).Wait().ok());
  EXPECT_EQ(std::memcmp(in.data(), out.data() + 100 * 4_KiB, 300_KiB), 0);
  EXPECT_EQ(OrDie(moved.files()[1].SizeBytes()), moved.layout().FileBytes(1, 1_MiB));
}

}  // namespace
}  // namespace strata::aio
