#include "tools/human.h"

#include <gtest/gtest.h>

#include <cmath>

namespace strata::tools {
namespace {

std::string Seconds(double seconds) {
  return FormatDuration(std::chrono::duration<double>(seconds));
}

TEST(FormatDurationTest, UsesTheUnitsThatFit) {
  EXPECT_EQ(Seconds(0), "0 s");
  EXPECT_EQ(Seconds(250e-6), "250 us");
  EXPECT_EQ(Seconds(1.5e-3), "1.50 ms");
  EXPECT_EQ(Seconds(0.25), "250 ms");
  EXPECT_EQ(Seconds(4.25), "4.25 s");
  EXPECT_EQ(Seconds(42.5), "42.5 s");
  EXPECT_EQ(Seconds(192), "3 min 12 s");
  EXPECT_EQ(Seconds(3600 + 65), "1 h 01 min");
  EXPECT_EQ(Seconds(2 * 3600 + 5 * 60), "2 h 05 min");
  EXPECT_EQ(Seconds(3 * 86400 + 4 * 3600), "3 d 04 h");
}

TEST(FormatDurationTest, RoundingNeverFillsAUnit) {
  EXPECT_EQ(Seconds(999.6e-6), "1.00 ms");
  EXPECT_EQ(Seconds(0.9996), "1.00 s");
  EXPECT_EQ(Seconds(9.996), "10.0 s");
  EXPECT_EQ(Seconds(59.97), "1 min 00 s");
  EXPECT_EQ(Seconds(119.6), "2 min 00 s");
  EXPECT_EQ(Seconds(3599.7), "1 h 00 min");
  EXPECT_EQ(Seconds(86399), "1 d 00 h");
}

TEST(FormatDurationTest, WhatIsNoDurationIsAQuestionMark) {
  EXPECT_EQ(Seconds(-1), "?");
  EXPECT_EQ(Seconds(NAN), "?");
  EXPECT_EQ(Seconds(INFINITY), "?");
}

TEST(ParseDurationTest, TakesANumberAndAUnit) {
  auto parsed = [](std::string_view text) {
    auto duration = ParseDuration(text);
    return duration.ok() ? duration->count() : -1;
  };
  EXPECT_DOUBLE_EQ(parsed("60s"), 60);
  EXPECT_DOUBLE_EQ(parsed("2min"), 120);
  EXPECT_DOUBLE_EQ(parsed("1.5h"), 5400);
  EXPECT_DOUBLE_EQ(parsed("200ms"), 0.2);
}

TEST(ParseDurationTest, DoesNotGuess) {
  for (const char* text : {"", "60", "s", "1m", "60 s", " 60s", "60S", "-1s", "0s", "1e3s", "1.s",
                           ".5s", "1.2.3s", "nans", "1s2", "9999999999999h", "0x1s", "+1s"}) {
    auto duration = ParseDuration(text);
    EXPECT_FALSE(duration.ok()) << text;
  }
  EXPECT_EQ(ParseDuration("1m").status().message(),
            "not a duration: \"1m\" (write 60s, 2min, 1.5h or 200ms)");
}

TEST(FormatCountTest, HasThreeDigitsAndASuffix) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(0.25), "0.25");
  EXPECT_EQ(FormatCount(42), "42");
  EXPECT_EQ(FormatCount(42.3), "42.3");
  EXPECT_EQ(FormatCount(999.4), "999");
  EXPECT_EQ(FormatCount(999.7), "1.00k");
  EXPECT_EQ(FormatCount(12'345), "12.3k");
  EXPECT_EQ(FormatCount(1'235'814'400), "1.24B");
  EXPECT_EQ(FormatCount(65e9), "65.0B");
  EXPECT_EQ(FormatCount(2e15), "2000T");
  EXPECT_EQ(FormatCount(-1500), "-1.50k");
  EXPECT_EQ(FormatCount(NAN), "nan");
}

}  // namespace
}  // namespace strata::tools
