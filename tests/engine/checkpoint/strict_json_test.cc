#include "engine/checkpoint/internal/strict_json.h"

#include <gmock/gmock.h>

namespace strata::engine {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string ErrorOf(std::string_view text) {
  Result<nlohmann::json> parsed = ParseStrictJson(text, "a.json");
  EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument) << text;
  return parsed.status().message();
}

TEST(StrictJsonTest, ReadsWhatTheLibraryReads) {
  constexpr std::string_view kText =
      R"({"a": [1, -2, 2.5, true, null, "x\u00e9", [], {}], "b": {"a": {"c": 18446744073709551615}}})";
  Result<nlohmann::json> parsed = ParseStrictJson(kText, "a.json");
  ASSERT_TRUE(parsed.ok()) << parsed.status().ToString();
  EXPECT_EQ(*parsed, nlohmann::json::parse(kText));
}

TEST(StrictJsonTest, ADuplicateKeyIsNamedWithItsPlace) {
  EXPECT_EQ(ErrorOf("{\"a\": 1,\n \"b\": {\"a\": 2},\n \"a\": 3}"),
            "a.json: line 3 column 4: duplicate key 'a'");
}

TEST(StrictJsonTest, ADuplicateKeyWrittenInAnotherWayIsFound) {
  EXPECT_THAT(ErrorOf(R"({"a": 1, "\u0061": 2})"), HasSubstr("duplicate key 'a'"));
}

TEST(StrictJsonTest, ASyntaxErrorIsNamedWithItsPlace) {
  EXPECT_THAT(ErrorOf("{\"a\": 1,\n}"), StartsWith("a.json: line 2 column 1: syntax error"));
}

TEST(StrictJsonTest, WhatFollowsTheValueIsAnError) {
  EXPECT_THAT(ErrorOf("{} {}"), StartsWith("a.json: line 1 column 4: syntax error"));
}

TEST(StrictJsonTest, NothingAtAllIsAnError) {
  EXPECT_THAT(ErrorOf(""), StartsWith("a.json: line 1 column 0: syntax error"));
}

TEST(StrictJsonTest, DeepNestingIsAnErrorNotAFullStack) {
  EXPECT_THAT(ErrorOf(std::string(1'000'000, '[')), HasSubstr("nested deeper than 32"));
}

TEST(StrictJsonTest, NumbersThatNoDoubleHoldsAreErrors) {
  EXPECT_THAT(ErrorOf(R"({"a": 1e999})"), HasSubstr("number overflow"));
}

TEST(StrictJsonTest, TextThatIsNotUtf8IsAnError) {
  EXPECT_THAT(ErrorOf("{\"\xff\": 1}"), HasSubstr("invalid string"));
}

}  // namespace
}  // namespace strata::engine
