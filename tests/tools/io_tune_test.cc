// strata io tune as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "aio/file.h"
#include "tests/aio/scratch.h"
#include "tests/tools/program.h"

namespace strata::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class IoTuneTest : public testing::Test {
 protected:
  IoTuneTest() { fs::create_directory(data_); }

  // Reads of 16 MiB on the backend that is everywhere: few settings, and soon over.
  Outcome Tune(std::vector<std::string> more,
               const std::optional<Disturbance>& disturbance = {}) const {
    std::vector<std::string> command = {"io",    "tune",   "--path",    data_,  "--size",
                                        "16MiB", "--read", "--engines", "posix"};
    command.insert(command.end(), more.begin(), more.end());
    return RunStrata(command, disturbance);
  }
  std::string Read(const std::string& path) const {
    return OrDie(aio::ReadSmallFile(path, 16 << 20));
  }
  void ExpectNoDataLeft() const { EXPECT_TRUE(fs::is_empty(data_)); }

  ScratchDirectory scratch_;
  std::string data_ = scratch_.File("drive");
};

TEST_F(IoTuneTest, FindsASettingWritesItWhereItIsUsedAndLeavesNothing) {
  std::string config = scratch_.File("run.toml"), html = scratch_.File("a<b>&'c.html");
  std::ofstream(config) << "[aio] # mine\nqueue_depth = 4000 # deep\n[memory]\n";
  Outcome outcome = Tune({"--budget", "8s", "--config", config, "--html", html});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(StartsWith("winner: posix "), HasSubstr("of CPU per GB"),
                    HasSubstr("\nposix: GB/s, a row per block size"), HasSubstr("\n[aio]\n")));
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("tuning, round 2"), HasSubstr("wrote [aio] of "),
                                 Not(HasSubstr("\x1b"))));
  EXPECT_THAT(Read(config), AllOf(StartsWith("[aio] # mine\nqueue_depth = "),
                                  HasSubstr(" # deep\n"), HasSubstr("\nbackend = \"posix\"\n"),
                                  HasSubstr("\n[memory]\n"), Not(HasSubstr("4000"))));
  EXPECT_THAT(Read(html), AllOf(StartsWith("<!DOCTYPE html>"), HasSubstr("a&lt;b&gt;&amp;"),
                                HasSubstr("<svg "), HasSubstr(data_)));
  ExpectNoDataLeft();
}

TEST_F(IoTuneTest, JsonIsForOtherPrograms) {
  Outcome outcome = Tune({"--budget", "8s", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  json report = json::parse(outcome.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_EQ(report["winner"]["setting"]["backend"], "posix");
  EXPECT_GT(report["winner"]["traffics"]["read"]["median_bytes_per_s"], 0);
}

TEST_F(IoTuneTest, WhatCannotBeDoneIsOneErrorBeforeAnythingIsMeasured) {
  std::string broken = scratch_.File("broken.toml");
  std::ofstream(broken) << "[aio\n";
  struct Case {
    std::vector<std::string> arguments;
    std::string error;
  };
  for (const Case& wrong : std::vector<Case>{
           {{"--path", "/no/such/place"}, "/no/such/place: No such file or directory"},
           {{"--config", broken}, "error: --config: " + broken + ":1:5: not valid TOML"},
           {{"--config", "/no/such/run.toml"}, "error: --config: write to /no/such: No such file"},
           {{"--html", "/no/such/page.html"}, "error: --html: write to /no/such: No such file"},
           {{"--budget", "1s"}, "a budget of "}}) {
    Outcome outcome = Tune(wrong.arguments);
    EXPECT_EQ(outcome.exit_code, 1) << wrong.error;
    EXPECT_THAT(outcome.err, HasSubstr(wrong.error));
    EXPECT_EQ(outcome.out, "");
  }
  ExpectNoDataLeft();
}

TEST_F(IoTuneTest, WrongUsageIsExitCodeTwoAndNamesTheFlag) {
  for (std::vector<std::string> wrong :
       std::vector<std::vector<std::string>>{{"--budget", "60"},
                                             {"--budget", "1m"},
                                             {"--engines", "uring"},
                                             {"--size", "1GB"},
                                             {"--seed", "x"},
                                             {"--deepspeed", "--json"},
                                             {"--no-such-flag"}}) {
    Outcome outcome = Tune(wrong);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr(wrong[0]));
  }
}

TEST_F(IoTuneTest, AFileIsTunedForReadsAndNotWrittenTo) {
  std::string path = scratch_.File("data");
  std::string content(8 << 20, 'x');
  std::ofstream(path) << content;
  std::vector<std::string> command = {"io", "tune",      "--path", path,         "--budget",
                                      "8s", "--engines", "posix",  "--deepspeed"};
  Outcome outcome = RunStrata(command);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("note: tuned for reads only: "));
  json deepspeed = json::parse(outcome.out.substr(outcome.out.find("\n{") + 1), nullptr,
                               /*allow_exceptions=*/false);
  EXPECT_GT(deepspeed["aio"]["intra_op_parallelism"], 0);
  command.push_back("--mix");
  outcome = RunStrata(command);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error: " + path), HasSubstr("--destroy-data")));
  EXPECT_EQ(Read(path), content);
}

TEST_F(IoTuneTest, CtrlCPrintsWhatIsKnownAndWritesNoFile) {
  std::string config = scratch_.File("run.toml");
  for (auto after : {std::chrono::milliseconds(5), std::chrono::milliseconds(2500)}) {
    Outcome outcome = Tune({"--budget", "10min", "--config", config},
                           Disturbance{.signal_number = SIGINT, .after = after});
    // Before main() has set up its handlers the signal itself ends the program.
    if (outcome.was_killed) continue;
    EXPECT_EQ(outcome.exit_code, 130);
    EXPECT_LT(outcome.seconds, 60);
    EXPECT_THAT(outcome.out, testing::AnyOf("", HasSubstr("this is what was known by then")));
    EXPECT_THAT(outcome.err, HasSubstr("interrupted: no file was written"));
    EXPECT_FALSE(fs::exists(config));
    ExpectNoDataLeft();
  }
}

}  // namespace
}  // namespace strata::tools
