#include "tools/preflight_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace strata::tools {
namespace {

using aio::Finding;
using aio::FindingSeverity;
using aio::Preflight;
using ::testing::HasSubstr;
using ::testing::Not;

Finding Problem(const std::string& what) {
  return {.key = "k",
          .what = what,
          .value = "bad",
          .severity = FindingSeverity::kProblem,
          .explanation = "It is slow because of this and that.",
          .command = "echo a long command that is there to be copied > /sys/x"};
}

Preflight Example() {
  return {.subject = "/nvme0",
          .findings = {{.key = "path", .what = "path", .value = "directory"}, Problem("thing")}};
}

TEST(PreflightTextTest, ATableAndBelowItWhatToDo) {
  std::vector<Preflight> preflights = {Example()};
  EXPECT_EQ(DescribePreflights(preflights, Colour::kNone, 30),
            "/nvme0\n"
            "\n"
            "state    of     found\n"
            "-------  -----  ---------\n"
            "fine     path   directory\n"
            "problem  thing  bad\n"
            "\n"
            "problem: /nvme0: thing: bad\n"
            "  It is slow because of this\n"
            "  and that.\n"
            "    echo a long command that is there to be copied > /sys/x\n"
            "\n"
            "1 problem\n");
}

TEST(PreflightTextTest, ProblemsComeBeforeNotes) {
  Preflight preflight = Example();
  Finding note = Problem("other");
  note.severity = FindingSeverity::kNote;
  preflight.findings.insert(preflight.findings.begin(), note);
  std::string text = DescribePreflights(std::vector{preflight}, Colour::kNone, 80);
  EXPECT_LT(text.find("problem: /nvme0: thing"), text.find("note: /nvme0: other"));
}

TEST(PreflightTextTest, WhatHoldsForSeveralPathsIsExplainedOnce) {
  std::vector<Preflight> preflights = {Example(), Example()};
  preflights[1].subject = "/nvme1";
  std::string text = DescribePreflights(preflights, Colour::kNone, 80);
  EXPECT_THAT(text, HasSubstr("problem: /nvme0, /nvme1: thing: bad\n"));
  EXPECT_EQ(text.find("It is slow"), text.rfind("It is slow"));
  EXPECT_THAT(text, HasSubstr("\n2 problems\n"));
}

TEST(PreflightTextTest, ColourDoesNotMoveTheColumns) {
  std::string text = DescribePreflights(std::vector{Example()}, Colour::kAnsi, 80);
  EXPECT_THAT(text, HasSubstr("\n\x1b[32mfine\x1b[0m     path   directory\n"));
  EXPECT_THAT(text, HasSubstr("\n\x1b[1;31mproblem\x1b[0m  thing  bad\n"));
}

TEST(PreflightTextTest, NothingFromOutsideSteersTheTerminal) {
  Preflight preflight = Example();
  preflight.subject = "/a\x1b[2Jb";
  preflight.findings[1].value = "two\nlines";
  std::string text = DescribePreflights(std::vector{preflight}, Colour::kNone, 80);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, HasSubstr("two?lines"));
}

TEST(PreflightTextTest, JsonHasEveryFindingAndTheNumberOfProblems) {
  nlohmann::json json = nlohmann::json::parse(PreflightsToJson(std::vector{Example()}));
  EXPECT_EQ(json["problems"], 1);
  EXPECT_EQ(json["subjects"][0]["subject"], "/nvme0");
  const nlohmann::json& finding = json["subjects"][0]["findings"][1];
  EXPECT_EQ(finding["severity"], "problem");
  EXPECT_EQ(finding["key"], "k");
  EXPECT_EQ(finding["command"], "echo a long command that is there to be copied > /sys/x");
}

TEST(PreflightTextTest, APathThatIsNotUtf8IsStillJson) {
  Preflight preflight = Example();
  preflight.subject = "/\xff\xfe";
  EXPECT_TRUE(nlohmann::json::accept(PreflightsToJson(std::vector{preflight})));
}

}  // namespace
}  // namespace strata::tools
