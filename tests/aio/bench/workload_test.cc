#include "aio/bench/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "aio/bench/bench_memory.h"
#include "aio/bench/disk_meter.h"
#include "tests/aio/scratch.h"
#include "tests/fakes/fault_engine.h"

namespace strata::aio {
namespace {

using fakes::Fault;
using fakes::FaultEngine;
using fakes::FaultKind;
using testing::AllOf;
using testing::HasSubstr;

// Ends a run after so many requests, so that no test depends on how fast the disk is.
class WorkloadTest : public testing::Test {
 protected:
  static AioSetting Posix(uint64_t block_bytes, uint32_t depth) {
    return {.backend = IoBackend::kPosix, .block_size_bytes = block_bytes, .queue_depth = depth};
  }
  Result<WorkloadResult> Run(const AioSetting& setting, WorkloadOptions options) {
    return meter_.Measure(setting, options);
  }
  static WorkloadOptions For(Mix mix, AccessOrder order = AccessOrder::kSequential) {
    return {.mix = mix,
            .order = order,
            .duration = std::chrono::milliseconds(100),
            .check = DataCheck::kOn};
  }

  ScratchDirectory scratch_;
  std::unique_ptr<BenchTarget> target_ =
      OrDie(BenchTarget::Create({.paths = {scratch_.path()}, .size_bytes = 16_MiB}));
  DiskMeter meter_ = OrDie(DiskMeter::Create(*target_, 8_MiB));
};

TEST_F(WorkloadTest, EveryMixAndOrderMovesWhatItSaysAndLeavesTheDataRight) {
  for (Mix mix : {Mix{1, 0}, Mix{0, 1}, Mix{50, 50}, Mix{70, 30}}) {
    for (AccessOrder order : {AccessOrder::kSequential, AccessOrder::kRandom}) {
      WorkloadResult result = OrDie(Run(Posix(64_KiB, 4), For(mix, order)));
      EXPECT_EQ(result.bytes_read > 0, mix.reads > 0);
      EXPECT_EQ(result.bytes_written > 0, mix.writes > 0);
      EXPECT_GE(result.seconds, 0.1);
      EXPECT_GT(result.cpu_s, 0);
      EXPECT_EQ(result.read_latency.count() > 0, mix.reads > 0);
      EXPECT_EQ(target_->CheckAll().ToString(), "ok") << DescribeMix(mix);
    }
  }
}

// What stands on the drive then is what was in memory, and nobody made it anew.
TEST_F(WorkloadTest, RepeatedDataIsWrittenAsItIs) {
  WorkloadOptions options = For({0, 1});
  options.check = DataCheck::kOff;
  options.written = WrittenData::kRepeated;
  WorkloadResult result = OrDie(Run(Posix(64_KiB, 4), options));
  EXPECT_GT(result.bytes_written, 0u);
  Status checked = target_->CheckAll();
  EXPECT_EQ(checked.code(), Code::kDataLoss);
  EXPECT_EQ(result.check_cpu_s, 0);
}

TEST_F(WorkloadTest, AMixKeepsToItsRatio) {
  WorkloadResult result = OrDie(Run(Posix(64_KiB, 4), For({70, 30}, AccessOrder::kRandom)));
  double share = static_cast<double>(result.total_bytes_read) /
                 static_cast<double>(result.total_bytes_read + result.total_bytes_written);
  // Off by a request of 1 MiB at most.
  double one_request = 1048576.0 / static_cast<double>(result.bytes());
  EXPECT_NEAR(share, 0.7, 2 * one_request + 0.01);
}

TEST_F(WorkloadTest, IntervalsAddUpToTheMeasuredPart) {
  WorkloadResult result = OrDie(Run(Posix(64_KiB, 4), For({1, 0})));
  ASSERT_GE(result.intervals.size(), 1u);
  uint64_t bytes = 0;
  double seconds = 0;
  for (const Interval& interval : result.intervals) {
    bytes += interval.bytes;
    seconds += interval.seconds;
  }
  EXPECT_NEAR(seconds, result.seconds, 0.01);
  // What ended between two readings of the counters.
  EXPECT_NEAR(static_cast<double>(bytes), static_cast<double>(result.bytes_read), 4e6);
}

TEST_F(WorkloadTest, WarmUpIsNotCounted) {
  WorkloadOptions options = For({1, 0});
  options.warm_up = std::chrono::milliseconds(100);
  bool warmed_up = false;
  options.progress = [&](const WorkloadProgress& progress) { warmed_up |= progress.warming_up; };
  WorkloadResult result = OrDie(Run(Posix(64_KiB, 4), options));
  EXPECT_TRUE(warmed_up);
  EXPECT_LT(result.bytes_read, result.total_bytes_read);
  EXPECT_GE(result.seconds, 0.1);
}

TEST_F(WorkloadTest, AStopKeepsWhatWasMeasured) {
  WorkloadOptions options = For({1, 0});
  options.duration = std::chrono::hours(1);
  int intervals = 0;
  options.progress = [&](const WorkloadProgress&) { ++intervals; };
  options.stop = [&] { return intervals >= 2; };
  WorkloadResult result = OrDie(Run(Posix(64_KiB, 4), options));
  EXPECT_TRUE(result.stopped);
  EXPECT_GT(result.bytes_read, 0u);
  EXPECT_GT(result.seconds, 0);
}

TEST_F(WorkloadTest, BlocksThatDoNotFitAreRefusedWithWhatWould) {
  Status status = Run(Posix(4_MiB, 4), For({1, 1})).status();
  EXPECT_EQ(status.ToString(), "ok");
  auto small = OrDie(BenchTarget::Create({.paths = {scratch_.path()}, .size_bytes = 4_MiB}));
  DiskMeter meter = OrDie(DiskMeter::Create(*small, 8_MiB));
  status = meter.Measure(Posix(4_MiB, 4), For({1, 1})).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("4 MiB"), HasSubstr("8 MiB"), HasSubstr("--size")));
}

// Sees all that a run asks of its engine.
class WatchedEngine final : public IoEngine {
 public:
  explicit WatchedEngine(std::unique_ptr<IoEngine> real) : real_(std::move(real)) {}
  IoTicket StartReads(std::span<const ReadRange> ranges, RequestOptions options) override {
    for (const ReadRange& range : ranges) reads.push_back(range.offset_bytes);
    return real_->StartReads(ranges, std::move(options));
  }
  IoTicket StartWrites(std::span<const WriteRange> ranges, RequestOptions options) override {
    for (const WriteRange& range : ranges) writes.push_back(range.offset_bytes);
    return real_->StartWrites(ranges, std::move(options));
  }
  IoCounters counters() const override { return real_->counters(); }
  LatencyHistogram latency(IoDirection direction) const override {
    return real_->latency(direction);
  }
  IoBackend backend() const override { return real_->backend(); }
  std::vector<std::string> notes() const override { return real_->notes(); }

  std::vector<uint64_t> reads, writes;

 private:
  std::unique_ptr<IoEngine> real_;
};

TEST_F(WorkloadTest, RandomVisitsEveryBlockBeforeAnyComesAgain) {
  WatchedEngine engine(OrDie(IoEngine::Create(EngineOptionsOf(Posix(64_KiB, 4), {}))));
  WorkloadOptions options = For({1, 1}, AccessOrder::kRandom);
  options.duration = std::chrono::seconds(60);
  options.stop = [&] { return engine.writes.size() >= 256; };
  ASSERT_TRUE(RunWorkload(*target_, engine, Posix(64_KiB, 4), meter_.memory(), options).ok());
  auto first_round = [](const std::vector<uint64_t>& offsets) {
    return std::set<uint64_t>(offsets.begin(), offsets.begin() + 128);
  };
  // Reads in the front half, writes in the back half, each block of 64 KiB once.
  std::set<uint64_t> reads = first_round(engine.reads), writes = first_round(engine.writes);
  EXPECT_EQ(reads.size(), 128u);
  EXPECT_EQ(*reads.rbegin(), 8_MiB - 64_KiB);
  EXPECT_EQ(writes.size(), 128u);
  EXPECT_EQ(*writes.begin(), 8_MiB);
}

// A drive that does something else with one block, whenever that is written.
class BadBlockTest : public WorkloadTest {
 protected:
  Status WriteAndCheck(const Fault& fault) {
    FaultEngine engine(OrDie(IoEngine::Create({.backend = IoBackend::kPosix})),
                       {.block_size_bytes = 64_KiB});
    engine.plan().SpoilPlace({.direction = IoDirection::kWrite,
                              .path = target_->files().files()[0].path(),
                              .offset_bytes = 1_MiB,
                              .length_bytes = 64_KiB},
                             fault, UINT64_MAX);
    STRATA_RETURN_IF_ERROR(
        RunWorkload(*target_, engine, Posix(64_KiB, 4), meter_.memory(), For({0, 1})).status());
    return target_->CheckAll();
  }
  // That the message names the file and a sector of the block.
  void ExpectNamesThePlace(const Status& status) const {
    EXPECT_EQ(status.code(), Code::kDataLoss);
    std::string before = "verify " + target_->files().files()[0].path() + " offset_bytes=";
    ASSERT_THAT(status.message(), ::testing::StartsWith(before));
    uint64_t offset_bytes = std::stoull(status.message().substr(before.size()));
    EXPECT_GE(offset_bytes, 1_MiB);
    EXPECT_LT(offset_bytes, 1_MiB + 64_KiB);
  }
};

TEST_F(BadBlockTest, ALostWriteIsFound) {
  Status status = WriteAndCheck({.kind = FaultKind::kLost});
  ExpectNamesThePlace(status);
  EXPECT_THAT(status.message(), HasSubstr("it holds write 1 of it"));
}

TEST_F(BadBlockTest, ATornWriteIsFound) {
  Status status = WriteAndCheck({.kind = FaultKind::kTorn});
  ExpectNamesThePlace(status);
}

TEST_F(BadBlockTest, AFlippedBitIsFound) {
  Status status = WriteAndCheck({.kind = FaultKind::kFlipped});
  ExpectNamesThePlace(status);
}

TEST_F(BadBlockTest, AnErrorEndsTheRunAndNamesThePlace) {
  Status status = WriteAndCheck({.kind = FaultKind::kError, .error_number = EIO});
  EXPECT_EQ(status.code(), Code::kIoError);
  std::string path = target_->files().files()[0].path();
  EXPECT_THAT(status.message(), AllOf(HasSubstr("write " + path + " offset_bytes="),
                                      HasSubstr(": Input/output error")));
}

TEST_F(WorkloadTest, WhatIsReadIsCheckedAsItComes) {
  char zeros[512] = {};
  int fd = OrDie(target_->files().files()[0].BufferedFd());
  ASSERT_EQ(pwrite(fd, zeros, sizeof(zeros), 2 << 20), 512);
  ASSERT_EQ(fdatasync(fd), 0);
  Status status = Run(Posix(64_KiB, 4), For({1, 0})).status();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("offset_bytes=2097152"));
}

}  // namespace
}  // namespace strata::aio
