#include "aio/base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata {
namespace {

uint64_t Parsed(std::string_view text) {
  Result<uint64_t> bytes = ParseBytes(text);
  EXPECT_TRUE(bytes.ok()) << bytes.status().ToString();
  return bytes.ok() ? *bytes : 0;
}

TEST(UnitsTest, SizesAreBinaryAndMayHaveAFraction) {
  EXPECT_EQ(Parsed("0"), 0u);
  EXPECT_EQ(Parsed("4096"), 4096u);
  EXPECT_EQ(Parsed("312B"), 312u);
  EXPECT_EQ(Parsed("512KiB"), 512_KiB);
  EXPECT_EQ(Parsed("64MiB"), 64_MiB);
  EXPECT_EQ(Parsed("1.5GiB"), 1536_MiB);
  EXPECT_EQ(Parsed("2TiB"), 2048_GiB);
}

TEST(UnitsTest, AnythingElseIsAnErrorAndNotAGuess) {
  for (std::string_view text : {"", "MiB", "64MB", "64M", "64mib", "64 MiB", "-1MiB", "0.3B",
                                "1e30GiB", "nan", "inf", "64MiBx", "0x10"}) {
    Status status = ParseBytes(text).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), testing::HasSubstr("'" + std::string(text) + "'"));
  }
}

TEST(UnitsTest, TextForPeopleHasThreeDigits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(312), "312 B");
  EXPECT_EQ(FormatBytes(64_MiB), "64 MiB");
  EXPECT_EQ(FormatBytes(1536_MiB), "1.50 GiB");
  EXPECT_EQ(FormatBytes(10_GiB + 512_MiB), "10.5 GiB");
  EXPECT_EQ(FormatBytes(300_GiB + 1), "300 GiB");
}

TEST(UnitsTest, WhatIsFormattedExactlyIsParsedBack) {
  for (uint64_t bytes : {1_KiB, 3_MiB, 1000_GiB, uint64_t{77}}) {
    std::string text = FormatBytes(bytes);
    text.erase(text.find(' '), 1);
    EXPECT_EQ(Parsed(text), bytes);
  }
}

TEST(UnitsTest, RoundingUp) {
  EXPECT_EQ(RoundUp(0, 4096), 0u);
  EXPECT_EQ(RoundUp(1, 4096), 4096u);
  EXPECT_EQ(RoundUp(4096, 4096), 4096u);
  EXPECT_EQ(CeilDiv(0, 3), 0u);
  EXPECT_EQ(CeilDiv(7, 3), 3u);
}

}  // namespace
}  // namespace strata
