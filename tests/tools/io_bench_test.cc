// strata io bench as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "aio/file.h"
#include "aio/io_engine.h"
#include "tests/aio/backends.h"
#include "tests/aio/mounts.h"
#include "tests/aio/scratch.h"
#include "tests/tools/program.h"

namespace strata::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class IoBenchTest : public testing::Test {
 protected:
  // A bench of 16 MiB that takes a fraction of a second, where `more` does not say otherwise.
  std::vector<std::string> Command(const std::vector<std::string>& more) const {
    std::vector<std::string> command = {"io", "bench"};
    for (const auto& [flag, value] :
         std::vector<std::pair<std::string, std::string>>{{"--path", scratch_.path()},
                                                          {"--size", "16MiB"},
                                                          {"--block-size", "256KiB"},
                                                          {"--queue-depth", "4"},
                                                          {"--seconds", "0.1"},
                                                          {"--runs", "2"}}) {
      if (std::count(more.begin(), more.end(), flag) > 0) continue;
      command.insert(command.end(), {flag, value});
    }
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  Outcome Bench(const std::vector<std::string>& more,
                const std::optional<Disturbance>& disturbance = {}) const {
    return RunStrata(Command(more), disturbance);
  }
  json BenchJson(std::vector<std::string> more) const {
    more.push_back("--json");
    Outcome outcome = Bench(more);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return json::parse(outcome.out, nullptr, /*allow_exceptions=*/false);
  }
  void ExpectNothingLeft() const { EXPECT_TRUE(fs::is_empty(scratch_.path())); }

  ScratchDirectory scratch_;
};

TEST_F(IoBenchTest, MeasuresReadsWritesAndBothAndLeavesNothing) {
  Outcome outcome = Bench({});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("GB/s"), HasSubstr("GiB/s"), HasSubstr("IOPS"), HasSubstr("p99.9"),
                    HasSubstr("CPU s/GB"), HasSubstr("\nread "), HasSubstr("\nwrite "),
                    HasSubstr("\nmixed 50:50"), HasSubstr("its reads"), HasSubstr("its writes"),
                    HasSubstr("buffers: ")));
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("writing the data to read\n"),
                                 HasSubstr("read, run 1 of 2\n"), HasSubstr("write, run 2 of 2")));
  EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos);
  ExpectNothingLeft();
}

TEST_F(IoBenchTest, TheJsonIsOneObjectWhoseFiguresAgree) {
  json report = BenchJson({"--mixed", "70:30", "--random"});
  ASSERT_EQ(report["phases"].size(), 1u);
  const json& phase = report["phases"][0];
  EXPECT_EQ(phase["phase"], "mixed 70:30");
  EXPECT_EQ(phase["order"], "random");
  EXPECT_EQ(phase["bytes"],
            phase["read"]["bytes"].get<uint64_t>() + phase["write"]["bytes"].get<uint64_t>());
  double seconds = phase["seconds"], bytes = phase["bytes"], rate = phase["gb_per_s"];
  EXPECT_NEAR(rate, bytes / seconds / 1e9, 1e-9 * rate);
  EXPECT_NEAR(phase["gib_per_s"].get<double>() * 1.073741824, rate, 1e-6);
  EXPECT_EQ(phase["runs"].size(), 2u);
  EXPECT_GT(phase["cpu_s_per_gb"], 0);
  EXPECT_LE(phase["read"]["latency"]["p50_us"], phase["read"]["latency"]["max_us"]);
  EXPECT_EQ(report["block_size_bytes"], 262144);
  EXPECT_EQ(report["paths"][0]["kind"], "scratch file");
  EXPECT_EQ(report["partial"], false);
}

TEST_F(IoBenchTest, VerifiesAndSaysSo) {
  json report = BenchJson({"--verify"});
  ASSERT_EQ(report["phases"].size(), 3u);
  for (const json& phase : report["phases"]) {
    EXPECT_EQ(phase["verified"], true);
    EXPECT_GT(phase["check_cpu_s"], 0);
  }
}

TEST_F(IoBenchTest, RepeatedDataIsSaidAndCannotBeVerified) {
  json report = BenchJson({"--write", "--repeat-data"});
  EXPECT_EQ(report["repeats_data"], true);
  EXPECT_GT(report["phases"][0]["bytes"], 0);
  Outcome both = Bench({"--write", "--repeat-data", "--verify"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.err, testing::HasSubstr("--verify"));
}

TEST_F(IoBenchTest, EveryEngineOfThisMachineMeasures) {
  for (aio::IoBackend backend : aio::kAllIoBackends) {
    std::string engine(aio::IoBackendName(backend));
    Outcome outcome = Bench({"--read", "--engine", engine, "--json"});
    if (aio::WhyNoBackend(backend).empty()) {
      EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
      EXPECT_EQ(json::parse(outcome.out)["engine"], engine);
    } else {
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_THAT(outcome.err, StartsWith("error: "));
    }
  }
}

TEST_F(IoBenchTest, OptionsOfIoUringReachIt) {
  if (!aio::WhyNoBackend(aio::IoBackend::kIoUring).empty()) GTEST_SKIP() << "no io_uring here";
  json report = BenchJson({"--engine", "io_uring", "--sqpoll", "--registered-files", "--read"});
  EXPECT_EQ(report["sqpoll"], true);
  EXPECT_EQ(report["registered_files"], true);
  EXPECT_THAT(report["notes"].dump(), AllOf(HasSubstr("sqpoll"), HasSubstr("registered")));
}

TEST_F(IoBenchTest, SeveralPathsAreOneTarget) {
  fs::create_directory(scratch_.File("a"));
  fs::create_directory(scratch_.File("b"));
  Outcome outcome = RunStrata({"io", "bench", "--path", scratch_.File("a"), "--path",
                               scratch_.File("b"), "--size", "16MiB", "--block-size", "64KiB",
                               "--seconds", "0.1", "--verify", "--json"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  json report = json::parse(outcome.out);
  ASSERT_EQ(report["paths"].size(), 2u);
  double shares = 0;
  for (const json& path : report["paths"]) {
    EXPECT_GT(path["alone_read_gb_per_s"], 0);
    shares += path["share"].get<double>();
  }
  EXPECT_NEAR(shares, 1, 1e-9);
}

TEST_F(IoBenchTest, AFileIsReadAndNotWrittenTo) {
  std::string path = scratch_.File("data");
  std::string content(1 << 20, 'x');
  std::ofstream(path) << content;
  std::vector<std::string> command = {"io",           "bench", "--path",        path,
                                      "--block-size", "64KiB", "--queue-depth", "2",
                                      "--seconds",    "0.05"};
  Outcome outcome = RunStrata(command);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("reads only"), HasSubstr("--destroy-data")));
  command.push_back("--write");
  outcome = RunStrata(command);
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error: " + path), HasSubstr("--destroy-data")));
  EXPECT_EQ(OrDie(aio::ReadSmallFile(path, 2 << 20)), content);
}

// The last line, which is not progress.
std::string LastLine(const std::string& text) {
  if (text.empty()) return "";
  size_t begin = text.rfind('\n', text.size() - 2);
  return text.substr(begin == std::string::npos ? 0 : begin + 1);
}

TEST_F(IoBenchTest, WhatCannotBeMeasuredIsOneErrorThatSaysWhatToDo) {
  struct Case {
    std::vector<std::string> arguments;
    std::string error;
  };
  for (const Case& wrong : std::vector<Case>{
           {{"--path", "/no/such/place"}, "error: /no/such/place: No such file or directory\n"},
           {{"--path", "/dev/null"}, "error: /dev/null: neither a directory nor a file"},
           {{"--device", "cuda:0"}, "error: --device cuda:0: "},
           {{"--size", "4KiB"}, "ask for 256 KiB or more (--size), or smaller blocks\n"},
           {{"--block-size", "5000"}, "set a multiple of 4KiB"}}) {
    Outcome outcome = Bench(wrong.arguments);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.out;
    EXPECT_THAT(LastLine(outcome.err), HasSubstr(wrong.error));
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(IoBenchTest, WrongUsageIsExitCodeTwoAndNamesTheFlag) {
  for (std::vector<std::string> wrong :
       std::vector<std::vector<std::string>>{{"--no-such-flag"},
                                             {"--size", "1GB"},
                                             {"--block-size", "1M"},
                                             {"--mixed", "70"},
                                             {"--mixed", "0:0"},
                                             {"--engine", "aio"},
                                             {"--queue-depth", "0"},
                                             {"--runs", "0"},
                                             {"--seconds", "0"},
                                             {"--device", "gpu"}}) {
    Outcome outcome = Bench(wrong);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr(wrong[0]));
  }
}

TEST_F(IoBenchTest, AFullFileSystemIsAnErrorThatNamesTheRoom) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(scratch_.File("m"), 32 << 20, ""));
  Outcome outcome = RunStrata({"io", "bench", "--path", mount->at()});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, AllOf(StartsWith("error: " + mount->at()), HasSubstr("are free"),
                                 HasSubstr("1 GiB are needed"), HasSubstr("--size")));
}

class IoBenchInterruptedTest : public IoBenchTest {
 protected:
  // While it writes, and somewhere while it measures.
  static constexpr std::chrono::milliseconds kMoments[] = {
      std::chrono::milliseconds(5), std::chrono::milliseconds(100), std::chrono::milliseconds(700)};
  Outcome BenchUntil(int signal_number, std::chrono::milliseconds after) {
    return Bench({"--seconds", "600"}, Disturbance{.signal_number = signal_number, .after = after});
  }
};

TEST_F(IoBenchInterruptedTest, CtrlCEndsAtOnceWithWhatWasMeasured) {
  for (auto moment : kMoments) {
    Outcome outcome = BenchUntil(SIGINT, moment);
    // Before main() has set up its handlers the signal itself ends the program.
    if (outcome.was_killed) continue;
    EXPECT_EQ(outcome.exit_code, 130);
    EXPECT_LT(outcome.seconds, 60);
    ExpectNothingLeft();
    EXPECT_THAT(outcome.out, testing::AnyOf("", HasSubstr("these figures are partial")));
  }
}

TEST_F(IoBenchInterruptedTest, APartialResultIsJsonToo) {
  Outcome outcome =
      Bench({"--seconds", "600", "--json"},
            Disturbance{.signal_number = SIGINT, .after = std::chrono::milliseconds(1500)});
  EXPECT_EQ(outcome.exit_code, 130);
  if (outcome.out.empty()) GTEST_SKIP() << "too slow to have measured anything";
  EXPECT_EQ(json::parse(outcome.out)["partial"], true);
}

TEST_F(IoBenchInterruptedTest, SigkillLeavesNothingBehind) {
  for (auto moment : kMoments) {
    Outcome outcome = BenchUntil(SIGKILL, moment);
    EXPECT_TRUE(outcome.was_killed);
    ExpectNothingLeft();
  }
}

}  // namespace
}  // namespace strata::tools
