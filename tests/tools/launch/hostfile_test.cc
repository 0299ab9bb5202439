#include "tools/launch/hostfile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/or_die.h"

namespace strata::launch {
namespace {

using testing::HasSubstr;

// DeepSpeed's own answers: tests/golden/make_resource_filter.py.
nlohmann::json Golden() {
  std::ifstream file(STRATA_SOURCE_DIR "/tests/golden/resource_filter.json");
  return nlohmann::json::parse(file);
}

nlohmann::json HostsOf(const Layout& layout) {
  nlohmann::json hosts = nlohmann::json::array();
  for (const NodeSlots& node : layout) hosts.push_back({node.host, node.slots});
  return hosts;
}

TEST(Hostfile, ReadsWhatDeepSpeedReadsAndRefusesWhatItRefuses) {
  const nlohmann::json golden = Golden();
  ASSERT_EQ(golden["hostfiles"].size(), 10u);
  for (const nlohmann::json& one : golden["hostfiles"]) {
    Result<Layout> layout = ParseHostfile(one["text"].get<std::string>(), "hosts");
    ASSERT_EQ(layout.ok(), !one.contains("error")) << one;
    if (layout.ok()) {
      EXPECT_EQ(HostsOf(*layout), one["hosts"]) << one["name"];
    }
  }
}

TEST(Hostfile, FiltersAsDeepSpeedDoes) {
  const nlohmann::json golden = Golden();
  std::map<std::string, std::string> texts;
  for (const nlohmann::json& one : golden["hostfiles"]) texts[one["name"]] = one["text"];
  size_t num_filtered = 0;
  for (const nlohmann::json& one : golden["filters"]) {
    const Layout all = OrDie(ParseHostfile(texts[one["hostfile"]], "hosts"));
    const std::string include = one["include"];
    const std::string exclude = one["exclude"];
    if (include.empty() && exclude.empty()) continue;
    Result<Layout> layout = include.empty() ? FilterLayout(all, Filter::kExclude, exclude)
                                            : FilterLayout(all, Filter::kInclude, include);
    ASSERT_EQ(layout.ok(), !one.contains("error")) << one << layout.status().message();
    if (layout.ok()) {
      EXPECT_EQ(HostsOf(*layout), one["hosts"]) << one;
    }
    ++num_filtered;
  }
  EXPECT_GT(num_filtered, 15u);
}

std::string HostfileError(const std::string& text) {
  return ParseHostfile(text, "hosts").status().message();
}

TEST(Hostfile, ErrorsNameFileAndLineAndWhatToWrite) {
  EXPECT_THAT(HostfileError("# first\nworker-0\n"),
              AllOf(HasSubstr("hosts:2: "), HasSubstr("write 'worker-0 slots=8'")));
  EXPECT_THAT(HostfileError("a slots=2\nb slots=0\n"), HasSubstr("hosts:2: 'slots=0'"));
  EXPECT_THAT(HostfileError("a slots=2\n\na slots=4\n"),
              AllOf(HasSubstr("hosts:3: "), HasSubstr("line 1")));
  EXPECT_THAT(HostfileError("a slots=2 gpus=3\n"), HasSubstr("'gpus=3' is not known"));
  EXPECT_THAT(HostfileError("a@b slots=2\n"), HasSubstr("no name of a host"));
  EXPECT_THAT(HostfileError("\n"), HasSubstr("names no host"));
}

TEST(Hostfile, OpenMpisMaxSlotsAndCommentsBehindALineAreNoError) {
  const Layout layout = OrDie(ParseHostfile("a slots=2 max_slots=2 # rack 4\r\n", "hosts"));
  EXPECT_EQ(layout, (Layout{{"a", 2, {0, 1}}}));
}

TEST(Hostfile, FilterErrorsNameTheOptionAndWhatIsThere) {
  const Layout all = OrDie(ParseHostfile("a slots=2\nb slots=2\n", "hosts"));
  EXPECT_THAT(FilterLayout(all, Filter::kInclude, "c").status().message(),
              AllOf(HasSubstr("--include"), HasSubstr("'c'"), HasSubstr("a, b")));
  EXPECT_THAT(FilterLayout(all, Filter::kExclude, "b:7").status().message(),
              AllOf(HasSubstr("--exclude"), HasSubstr("no slot 7"), HasSubstr("0-1")));
  EXPECT_THAT(FilterLayout(all, Filter::kExclude, "a@b").status().message(),
              HasSubstr("leaves no slot"));
}

TEST(Hostfile, ShrinksToTheFirstNodesAndSlots) {
  const Layout all = OrDie(ParseHostfile("a slots=4\nb slots=2\n", "hosts"));
  EXPECT_EQ(OrDie(Shrink(all, 1, 2)), (Layout{{"a", 4, {0, 1}}}));
  EXPECT_EQ(OrDie(Shrink(all, {}, {})), all);
  EXPECT_THAT(Shrink(all, 3, {}).status().message(), HasSubstr("--nnodes 3"));
  EXPECT_THAT(Shrink(all, {}, 3).status().message(), HasSubstr("host 'b' has 2 slots"));
}

}  // namespace
}  // namespace strata::launch
