#include "tools/tune_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/tune_reports.h"
#include "tests/tools/xml_check.h"
#include "tools/heat_map.h"
#include "tools/tune_html.h"

namespace strata::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(HeatMapTest, ShadesAndNumbersWithoutColour) {
  EXPECT_EQ(DrawHeatMaps(HeatMapsOf(SmallReport()), Colour::kNone, 80),
            "io_uring: GB/s, a row per block size, a column per queue depth\n"
            "         read\n"
            "             4    8\n"
            " 512 KiB  1.00░3.00\n"
            "   1 MiB      *3.97\n"
            "\n"
            "posix: GB/s, a row per block size, a column per queue depth\n"
            "         read\n"
            "             4    8\n"
            " 512 KiB\n"
            "   1 MiB  2.00\n");
  EXPECT_EQ(HeatLegend(Colour::kNone),
            "of the best, at least: ░ 70 %  ▒ 90 %  ▓ 95 %  █ 98 %  * the winner\n");
}

TEST(HeatMapTest, MapsOfAnEngineStandSideBySideWhereThereIsRoom) {
  aio::TuneReport report = SmallReport();
  report.traffics.push_back(aio::Traffic::kMix);
  for (aio::TuneCandidate& candidate : report.candidates)
    candidate.traffics.push_back(candidate.traffics[0]);
  std::string wide = DrawHeatMaps(HeatMapsOf(report), Colour::kNone, 31);
  EXPECT_TRUE(
      wide.starts_with("io_uring: GB/s, a row per block size, a column per queue depth\n"
                       "         read        mix\n"
                       "             4    8      4    8\n"
                       " 512 KiB  1.00░3.00   1.00░3.00\n"
                       "   1 MiB      *3.97       *3.97\n"
                       "\nposix"))
      << wide;
  std::string narrow = DrawHeatMaps(HeatMapsOf(report), Colour::kNone, 30);
  EXPECT_THAT(narrow, HasSubstr("   1 MiB      *3.97\n\nio_uring"));
}

std::string WithoutColours(std::string text) {
  for (size_t at; (at = text.find('\x1b')) != std::string::npos;)
    text.erase(at, text.find('m', at) + 1 - at);
  return text;
}

TEST(HeatMapTest, ColoursEndWithTheirCells) {
  std::string map = DrawHeatMaps(HeatMapsOf(SmallReport()), Colour::kAnsi, 80);
  EXPECT_THAT(map, HasSubstr("\x1b[48;5;226;38;5;16m*3.97\x1b[0m\n"));
  EXPECT_THAT(WithoutColours(map), HasSubstr(" 512 KiB  1.00 3.00\n"
                                             "   1 MiB      *3.97\n"));
}

TEST(HeatMapTest, LevelsAreNarrowNearTheBest) {
  EXPECT_EQ(HeatLevel(0), 0u);
  EXPECT_EQ(HeatLevel(0.24), 0u);
  EXPECT_EQ(HeatLevel(0.94), 5u);
  EXPECT_EQ(HeatLevel(0.96), 6u);
  EXPECT_EQ(HeatLevel(1), kHeatLevels - 1);
  EXPECT_EQ(GigabytesPerSecond(9.996e9), "10.0");
  EXPECT_EQ(GigabytesPerSecond(0.05e9), "0.05");
}

TEST(TuneTextTest, SaysWhatWonHowSureThatIsAndWhatItCosts) {
  std::string text = DescribeTuneReport(SmallReport(), Colour::kNone, 100);
  EXPECT_TRUE(text.starts_with(
      "winner: io_uring 1 MiB x 8 x 1 thread\n"
      "  read  3.97 (3.77 to 4.17) GB/s\n"
      "  5.00 ms of CPU per GB, 8 MiB in flight\n"
      "read alone: io_uring 1 MiB x 8 x 2 threads, 4.00 (3.80 to 4.20) GB/s\n"
      "5 of 6 settings measured in 59.0 s: 9 rounds, 100 measurements of 200 ms\n"
      "\n"
      "setting                          speed  95 %          read   CPU/GB  runs  outcome\n"
      "-------------------------------  -----  ------------  ----  -------  ----  "
      "-------------------\n"
      "io_uring 1 MiB x 8 x 1 thread    0.993  0.94 to 1.04  3.97  5.00 ms     4  winner, round 3\n"
      "io_uring 1 MiB x 8 x 2 threads   1.000  0.95 to 1.05  4.00  5.00 ms     4  "
      "eliminated, round 3\n"))
      << text;
}

TEST(TuneTextTest, FailuresAreOneLinePerReason) {
  std::string text = DescribeTuneReport(SearchedReport(), Colour::kNone, 100);
  EXPECT_THAT(text, testing::ContainsRegex("failed: libaio .* and [0-9]+ more: unavailable: .*"
                                           "io_setup <1 & \"2\">: fs.aio-max-nr is used up\n"));
  EXPECT_THAT(text, HasSubstr("\nio_uring: GB/s, a row"));
  EXPECT_THAT(text, Not(HasSubstr("\nlibaio: GB/s")));
}

TEST(TuneTextTest, ASearchThatWasCancelledAtOnceSaysSo) {
  aio::TuneReport report = SmallReport();
  for (aio::TuneCandidate& candidate : report.candidates)
    candidate = {.setting = candidate.setting, .traffics = {{}}};
  report.winner.reset();
  report.best_of_traffic = {std::nullopt};
  report.cancelled = true;
  std::string text = DescribeTuneReport(report, Colour::kNone, 100);
  EXPECT_TRUE(
      text.starts_with("no setting was measured\ncancelled; this is what was known by then. "
                       "0 of 6 settings"))
      << text;
  EXPECT_EQ(XmlCheck::Problem(TuneReportToHtml(report, {})), "");
  EXPECT_TRUE(nlohmann::json::parse(TuneReportToJson(report))["winner"].is_null());
}

TEST(TuneTextTest, JsonHasEveryCandidateAndTheWinner) {
  aio::TuneReport report = SearchedReport();
  report.candidates[0].why = "\xff not UTF-8";
  nlohmann::json json = nlohmann::json::parse(TuneReportToJson(report));
  EXPECT_EQ(json["candidates"].size(), report.candidates.size());
  EXPECT_EQ(json["winner"]["fate"], "winner");
  EXPECT_EQ(json["winner"]["setting"]["queue_depth"],
            report.candidates[*report.winner].setting.queue_depth);
  EXPECT_GT(json["winner"]["traffics"]["mix"]["median_bytes_per_s"], 3e9);
  EXPECT_TRUE(json["best_of_traffic"].contains("write"));
  EXPECT_EQ(json["budget_s"], 60.0);
}

TEST(TuneTextTest, DeepSpeedGetsTheNamesThatItReads) {
  nlohmann::json json = nlohmann::json::parse(
      DeepSpeedAio({.block_size_bytes = 1_MiB, .queue_depth = 8, .thread_count = 2}));
  EXPECT_EQ(json, nlohmann::json::parse(R"({"aio": {"block_size": 1048576, "queue_depth": 8,
      "intra_op_parallelism": 2, "single_submit": false, "overlap_events": true}})"));
}

TEST(TuneHtmlTest, IsWellFormedAndNeedsNothingFromOutside) {
  std::string html = TuneReportToHtml(
      SearchedReport(), {.command = "strata io tune --path 'a<b>&\"c'",
                         .facts = {{"path", "/nvme/a<b>&\"c\x01"}, {"cores", "2"}},
                         .aio_section = "# by strata io tune\n[aio]\nblock_size = \"1MiB\"\n"});
  EXPECT_EQ(XmlCheck::Problem(html), "");
  EXPECT_THAT(html, HasSubstr("<td class=\"why\">/nvme/a&lt;b&gt;&amp;&quot;c\uFFFD</td>"));
  EXPECT_THAT(html, HasSubstr("--path &#39;a&lt;b&gt;&amp;&quot;c&#39;"));
  EXPECT_THAT(html, HasSubstr("[aio]\nblock_size = &quot;1MiB&quot;\n"));
  EXPECT_THAT(html, HasSubstr("io_setup &lt;1 &amp; &quot;2&quot;&gt;"));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme: dark"));
  for (const char* outside : {"<script", "src=", "href=", "url(", "@import", "https:"})
    EXPECT_THAT(html, Not(HasSubstr(outside)));
}

TEST(TuneHtmlTest, MapsHaveTitlesForThoseWhoDoNotSeeThem) {
  std::string html = TuneReportToHtml(SmallReport(), {});
  EXPECT_THAT(html, HasSubstr("role=\"img\""));
  EXPECT_THAT(html, HasSubstr("aria-labelledby=\"t1 d1\""));
  EXPECT_THAT(html, HasSubstr("<title id=\"t1\">read with io_uring, GB/s</title>"));
  EXPECT_THAT(html, HasSubstr("The fastest here is io_uring 1 MiB x 8 x 1 thread with 3.97 GB/s."));
  EXPECT_THAT(html, HasSubstr("<title id=\"t2\">read with posix, GB/s</title>"));
  EXPECT_THAT(html, HasSubstr(">3.97 \u2605</text>"));
  EXPECT_THAT(html, HasSubstr("class=\"empty\""));
}

TEST(XmlCheckTest, FindsWhatIsWrong) {
  EXPECT_EQ(XmlCheck::Problem("<a b=\"1\"><c/>&lt;</a>\n"), "");
  for (const char* wrong : {"<a>", "<a></b>", "<a b=1/>", "<a b=\"1\" b=\"2\"/>", "<a>&</a>",
                            "<a>\x01</a>", "<a b=\"<\"/>", "<a/><b/>", "text", "<a>&nbsp;</a>", ""})
    EXPECT_NE(XmlCheck::Problem(wrong), "") << wrong;
}

}  // namespace
}  // namespace strata::tools
