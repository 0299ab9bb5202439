#include "tools/io_bench_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

namespace strata::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kGb = 1'000'000'000;

aio::WorkloadResult RunOf(uint64_t bytes_read, uint64_t bytes_written) {
  aio::WorkloadResult run;
  run.seconds = 1;
  run.bytes_read = run.total_bytes_read = bytes_read;
  run.bytes_written = run.total_bytes_written = bytes_written;
  run.cpu_s = 0.01;
  for (int i = 0; i < 1000; ++i) {
    if (bytes_read > 0) run.read_latency.Add(std::chrono::microseconds(4000));
    if (bytes_written > 0) run.write_latency.Add(std::chrono::microseconds(2000));
  }
  return run;
}

BenchReport ReportOf(aio::PhaseResult phase) {
  BenchReport report;
  report.engine = "io_uring";
  report.block_size_bytes = 1 << 20;
  report.queue_depth = 16;
  report.thread_count = 1;
  report.memory_bytes = report.huge_bytes = 32 << 20;
  report.size_bytes = 1 << 30;
  report.paths = {{.path = "/nvme0", .size_bytes = 1 << 30}};
  report.phases.push_back(std::move(phase));
  return report;
}

aio::PhaseResult Reads() { return {.runs = {RunOf(3 * kGb, 0), RunOf(4 * kGb, 0)}}; }

TEST(IoBenchTextTest, ARowHasRatesLatenciesCostAndSpread) {
  EXPECT_THAT(DescribeBench(ReportOf(Reads())),
              AllOf(HasSubstr("/nvme0: 1 GiB of scratch file\n"
                              "io_uring, blocks of 1 MiB, queue depth 16, 1 thread\n"),
                    HasSubstr("\nread     3.50   3.26  1.00k"), HasSubstr("0.0029"),
                    HasSubstr("3.00-4.00 (20.2 %)\n"),
                    HasSubstr("- buffers: 32 MiB on huge pages\n"), Not(HasSubstr("partial"))));
}

TEST(IoBenchTextTest, AMixHasARowForEachDirection) {
  std::string text =
      DescribeBench(ReportOf({.mix = {70, 30}, .runs = {RunOf(2'100'000'000, 900'000'000)}}));
  EXPECT_THAT(text, AllOf(HasSubstr("\nmixed 70:30   3.00"), HasSubstr("\n  its reads   2.10"),
                          HasSubstr("\n  its writes  0.90"), HasSubstr("one run\n")));
}

TEST(IoBenchTextTest, MissingHugePagesAreTold) {
  BenchReport report = ReportOf(Reads());
  report.huge_bytes = 0;
  EXPECT_THAT(DescribeBench(report), HasSubstr("- buffers: 0 B of 32 MiB on huge pages; without"));
}

TEST(IoBenchTextTest, ADriveThatCountsOtherwiseIsTold) {
  aio::PhaseResult phase = Reads();
  phase.drives = {{.name = "nvme0n1", .read_bytes = 7 * kGb}};
  std::string text = DescribeBench(ReportOf(phase));
  EXPECT_THAT(text, HasSubstr("- read: the drive counted 1.0000 x the bytes read\n"));
  phase.drives[0].read_bytes = 9 * kGb;
  text = DescribeBench(ReportOf(phase));
  EXPECT_THAT(text, HasSubstr("counted 1.2857 x the bytes read: something else uses it"));
}

TEST(IoBenchTextTest, ThrottlingIsTold) {
  aio::PhaseResult phase = Reads();
  for (int i = 0; i < 30; ++i)
    phase.runs[0].intervals.push_back({.seconds = 1, .bytes = i < 15 ? 5 * kGb : 2 * kGb});
  EXPECT_THAT(DescribeBench(ReportOf(phase)), HasSubstr("slowed down from 5.00 to 2.00 GB/s"));
  EXPECT_EQ(nlohmann::json::parse(BenchToJson(ReportOf(phase)))["phases"][0]["throttling"], true);
}

TEST(IoBenchTextTest, WhatWasInterruptedSaysSo) {
  BenchReport report = ReportOf(Reads());
  report.partial = true;
  EXPECT_THAT(DescribeBench(report), HasSubstr("\ninterrupted: these figures are partial\n"));
  EXPECT_EQ(nlohmann::json::parse(BenchToJson(report))["partial"], true);
}

TEST(IoBenchTextTest, JsonSurvivesAPathThatIsNoUtf8) {
  BenchReport report = ReportOf(Reads());
  report.paths[0].path = "/mnt/\xff";
  EXPECT_FALSE(nlohmann::json::parse(BenchToJson(report), nullptr, false).is_discarded());
}

}  // namespace
}  // namespace strata::tools
