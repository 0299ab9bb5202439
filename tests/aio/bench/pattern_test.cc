#include "aio/bench/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using testing::HasSubstr;

constexpr SectorId kFirst = {.seed = 7, .file = 1, .generation = 3, .sector = 100};

std::vector<std::byte> Filled(SectorId first, size_t num_sectors) {
  std::vector<std::byte> bytes(num_sectors * kPatternSectorBytes);
  FillPattern(bytes, first);
  return bytes;
}

class PatternTest : public testing::Test {
 protected:
  std::span<std::byte> Sector(size_t index) {
    return std::span(bytes_).subspan(index * kPatternSectorBytes, kPatternSectorBytes);
  }
  SectorFault Found() {
    std::optional<SectorFault> fault = CheckPattern(bytes_, kFirst);
    if (!fault) ADD_FAILURE() << "nothing was found";
    return fault.value_or(SectorFault{});
  }
  std::vector<std::byte> bytes_ = Filled(kFirst, 8);
};

TEST_F(PatternTest, WhatWasWrittenIsAccepted) { EXPECT_FALSE(CheckPattern(bytes_, kFirst)); }

TEST_F(PatternTest, StampedSectorsAreAcceptedAtTheirNewPlace) {
  SectorId elsewhere = {.seed = 7, .file = 0, .generation = 9, .sector = 5000};
  StampPattern(bytes_, elsewhere);
  EXPECT_FALSE(CheckPattern(bytes_, elsewhere));
  EXPECT_TRUE(CheckPattern(bytes_, kFirst));
}

TEST_F(PatternTest, AMisdirectedSectorSaysWhereItBelongs) {
  std::vector<std::byte> other = Filled({.seed = 7, .file = 1, .generation = 3, .sector = 2}, 1);
  std::memcpy(Sector(4).data(), other.data(), other.size());
  SectorFault fault = Found();
  EXPECT_EQ(fault.kind, SectorFaultKind::kMisdirected);
  EXPECT_EQ(fault.expected.sector, 104u);
  EXPECT_THAT(fault.ToString(), HasSubstr("what was written to offset_bytes=8192 of the same"));
}

TEST_F(PatternTest, ASectorOfAnotherFileIsMisdirectedToo) {
  FillPattern(Sector(0), {.seed = 7, .file = 2, .generation = 3, .sector = 100});
  EXPECT_EQ(Found().kind, SectorFaultKind::kMisdirected);
  EXPECT_THAT(Found().ToString(), HasSubstr("offset_bytes=409600 of file 2"));
}

TEST_F(PatternTest, ALostWriteIsAnOlderGeneration) {
  FillPattern(Sector(7), {.seed = 7, .file = 1, .generation = 2, .sector = 107});
  EXPECT_EQ(Found().kind, SectorFaultKind::kOld);
  EXPECT_THAT(Found().ToString(), HasSubstr("write 2 of it, not the last one, 3"));
}

TEST_F(PatternTest, AWriteOfSomebodyElseIsANewerGeneration) {
  FillPattern(Sector(7), {.seed = 7, .file = 1, .generation = 4, .sector = 107});
  EXPECT_EQ(Found().kind, SectorFaultKind::kUnknownWrite);
}

TEST_F(PatternTest, ZerosAreNamed) {
  std::memset(Sector(3).data(), 0, kPatternSectorBytes);
  EXPECT_EQ(Found().kind, SectorFaultKind::kZeros);
}

TEST_F(PatternTest, RandomBytesAreGarbage) {
  FillWithRandomBytes(Sector(3), 5);
  EXPECT_EQ(Found().kind, SectorFaultKind::kGarbage);
}

TEST_F(PatternTest, WhatAnEarlierRunLeftIsTold) {
  FillPattern(Sector(3), {.seed = 8, .file = 1, .generation = 3, .sector = 103});
  EXPECT_EQ(Found().kind, SectorFaultKind::kForeign);
}

// At every border of a drive's own sectors, and with every kind of rest.
TEST_F(PatternTest, ATornSectorSaysFromWhichByteOn) {
  std::vector<std::byte> zeros(kPatternSectorBytes);
  std::vector<std::byte> old = Filled({.seed = 7, .file = 1, .generation = 2, .sector = 102}, 1);
  for (size_t at = 512; at < kPatternSectorBytes; at += 512) {
    for (const std::vector<std::byte>& rest : {zeros, old}) {
      FillPattern(bytes_, kFirst);
      std::memcpy(Sector(2).data() + at, rest.data() + at, kPatternSectorBytes - at);
      SectorFault fault = Found();
      EXPECT_EQ(fault.kind, SectorFaultKind::kTorn);
      // The first bytes may be equal by chance.
      EXPECT_GE(fault.at_byte, at);
      EXPECT_LT(fault.at_byte, at + 8);
    }
  }
}

TEST_F(PatternTest, AFlippedBitIsCorruptAndHasAPlace) {
  Sector(6)[1234] ^= std::byte{16};
  SectorFault fault = Found();
  EXPECT_EQ(fault.kind, SectorFaultKind::kCorrupt);
  EXPECT_EQ(fault.at_byte, 1234u);
  EXPECT_EQ(fault.wrong_words, 1u);
}

// A bit of the tag is part of the identity: it must not go unseen either.
TEST_F(PatternTest, EveryFlippedBitIsFound) {
  for (size_t bit = 0; bit < 8 * kPatternSectorBytes; ++bit) {
    Sector(1)[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_TRUE(CheckPattern(Sector(1), {.seed = 7, .file = 1, .generation = 3, .sector = 101}))
        << "bit " << bit;
    Sector(1)[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST_F(PatternTest, NoTwoSectorsAreEqualNotEvenIn512Bytes) {
  std::set<std::string> seen;
  size_t count = 0;
  for (uint32_t file = 0; file < 2; ++file) {
    for (uint32_t generation = 0; generation < 2; ++generation) {
      auto bytes = Filled({.seed = 7, .file = file, .generation = generation, .sector = 0}, 64);
      for (size_t at = 0; at < bytes.size(); at += 512, ++count)
        seen.emplace(reinterpret_cast<const char*>(&bytes[at]), 512);
    }
  }
  EXPECT_EQ(seen.size(), count);
}

// No byte value, and no byte position, stands out: there is nothing for a compressor to find.
TEST_F(PatternTest, BytesAreUniformTagsIncluded) {
  std::vector<std::byte> bytes = Filled({.seed = 1}, 4096);
  std::vector<size_t> of_value(256), of_tag_value(256);
  for (size_t i = 0; i < bytes.size(); ++i) {
    ++of_value[static_cast<size_t>(bytes[i])];
    if (i % kPatternSectorBytes < 40) ++of_tag_value[static_cast<size_t>(bytes[i])];
  }
  // 65536 and 640 are expected of each value; 8 standard deviations allowed.
  for (size_t value = 0; value < 256; ++value) {
    EXPECT_NEAR(static_cast<double>(of_value[value]), 65536, 8 * 256);
    EXPECT_NEAR(static_cast<double>(of_tag_value[value]), 640, 8 * 25.3);
  }
}

}  // namespace
}  // namespace strata::aio
