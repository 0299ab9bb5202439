// What a request can be, on every backend: many ranges, any length, cancelled, late, unfinished.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/aio/every_backend.h"

namespace strata::aio {
namespace {

using ::testing::HasSubstr;

class IoRequestKindsTest : public IoEngineTest {};

INSTANTIATE_TEST_SUITE_P(Backends, IoRequestKindsTest, testing::ValuesIn(kAllIoBackends),
                         NameOfBackend);

TEST_P(IoRequestKindsTest, ManyRangesOfSeveralFilesAreOneRequest) {
  File first = NewFile(1_MiB);
  path_ = directory_.File("second");
  File second = NewFile(1_MiB);
  FillWithRandomBytes(At(0, 1_MiB), 7);
  std::vector<WriteRange> writes;
  std::vector<ReadRange> reads;
  for (uint64_t i = 0; i < 8; ++i) {  // strided, every other range in the other file
    const File* file = i % 2 == 0 ? &first : &second;
    writes.push_back({file, i * 128_KiB, At(i * 100_KiB, 100_KiB)});
    reads.push_back({file, i * 128_KiB, At(4_MiB + i * 100_KiB, 100_KiB)});
  }
  ASSERT_EQ(engine_->StartWrites(writes).Wait().ToString(), "ok");
  ASSERT_EQ(engine_->StartReads(reads).Wait().ToString(), "ok");
  EXPECT_TRUE(std::ranges::equal(At(0, 800_KiB), At(4_MiB, 800_KiB)));
}

TEST_P(IoRequestKindsTest, AnyLengthIsWrittenAndReadToTheByte) {
  for (uint64_t length_bytes : {1_KiB + 1, 4_KiB - 1, 64_KiB + 512, 200'001ul, 1ul}) {
    path_ = directory_.File(std::to_string(length_bytes));
    File file = NewFile(0);
    FillWithRandomBytes(At(0, length_bytes), length_bytes);
    ASSERT_EQ(Write(file, 0, At(0, length_bytes)).ToString(), "ok");
    EXPECT_EQ(std::filesystem::file_size(path_), length_bytes);
    std::ranges::fill(At(4_MiB, length_bytes + 4_KiB), std::byte{0x55});
    ASSERT_EQ(Read(file, 0, At(4_MiB, length_bytes)).ToString(), "ok");
    EXPECT_TRUE(std::ranges::equal(At(0, length_bytes), At(4_MiB, length_bytes)));
    EXPECT_EQ(memory_.bytes()[4_MiB + length_bytes], std::byte{0x55}) << "beyond the end";
    EXPECT_EQ(Read(file, 0, At(4_MiB, length_bytes + 1)).code(), Code::kDataLoss);
  }
}

TEST_P(IoRequestKindsTest, ATailInsideAFileLeavesTheBytesAfterItAlone) {
  File file = NewFile(64_KiB);
  std::ranges::fill(At(0, 64_KiB), std::byte{1});
  ASSERT_TRUE(Write(file, 0, At(0, 64_KiB)).ok());
  std::ranges::fill(At(1_MiB, 10'000), std::byte{2});
  ASSERT_EQ(Write(file, 8_KiB, At(1_MiB, 10'000)).ToString(), "ok");
  ASSERT_TRUE(Read(file, 0, At(0, 64_KiB)).ok());
  for (uint64_t i = 0; i < 64_KiB; ++i) {
    bool is_new = i >= 8_KiB && i < 8_KiB + 10'000;
    ASSERT_EQ(memory_.bytes()[i], std::byte(is_new ? 2 : 1)) << "at byte " << i;
  }
}

TEST_P(IoRequestKindsTest, ACancelledRequestGivesItsMemoryBackAndOthersGoOn) {
  File file = NewFile(4_MiB);
  FillWithRandomBytes(At(0, 4_MiB), 8);
  ASSERT_TRUE(Write(file, 0, At(0, 4_MiB)).ok());
  for (int i = 0; i < 50; ++i) {
    std::atomic<int> calls = 0;
    IoTicket ticket = engine_->StartRead(file, 0, At(4_MiB, 4_MiB), {.done = [&] { ++calls; }});
    ticket.Cancel();
    Status status = ticket.Wait();
    EXPECT_TRUE(status.ok() || status.code() == Code::kCancelled) << status.ToString();
    // Nothing moves in the memory any more: it is ours, and the next read finds its own bytes.
    std::ranges::fill(At(4_MiB, 1_MiB), std::byte{0});
    ASSERT_TRUE(Read(file, 0, At(4_MiB, 64_KiB)).ok());
    EXPECT_TRUE(std::ranges::equal(At(0, 64_KiB), At(4_MiB, 64_KiB)));
    EXPECT_EQ(memory_.bytes()[4_MiB + 100_KiB], std::byte{0});
    while (calls == 0) std::this_thread::yield();
    EXPECT_EQ(calls, 1);
  }
}

TEST_P(IoRequestKindsTest, PastItsDeadlineARequestIsNotStarted) {
  File file = NewFile(1_MiB);
  uint64_t before = engine_->counters().pieces;
  IoTicket ticket =
      engine_->StartRead(file, 0, At(0, 1_MiB), {.deadline = std::chrono::steady_clock::now()});
  Status status = ticket.Wait();
  EXPECT_EQ(status.message(),
            "read " + path_ + " offset_bytes=0 length_bytes=1048576: its deadline has passed");
  EXPECT_EQ(status.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(engine_->counters().pieces, before);
}

// As many as fill the queue: none of them goes to the kernel, so no completion makes room.
TEST_P(IoRequestKindsTest, RequestsPastTheirDeadlineDoNotKeepOthersWaiting) {
  File file = NewFile(1_MiB);
  for (bool overlap_events : {false, true}) {
    IoEngineOptions options = Options();
    options.queue_depth = 1;
    options.overlap_events = overlap_events;
    Use(options);
    for (int i = 0; i < 3; ++i) {
      auto now = std::chrono::steady_clock::now();
      IoTicket late = engine_->StartRead(file, 0, At(0, 4_KiB), {.deadline = now});
      EXPECT_EQ(late.Wait().code(), Code::kDeadlineExceeded);
      EXPECT_EQ(Read(file, 0, At(0, 128_KiB)).ToString(), "ok");
    }
  }
}

TEST_P(IoRequestKindsTest, AnEngineEndsWhateverItHasInFlight) {
  File file = NewFile(1_MiB);
  for (int i = 0; i < 40; ++i) {
    IoEngineOptions options = Options();
    options.queue_depth = 1 + i % 3;
    options.overlap_events = i % 2 == 0;
    Use(options);
    std::atomic<int> num_done = 0;
    IoTicket ticket = engine_->StartWrite(file, 0, At(0, 1_MiB), {.done = [&] { ++num_done; }});
    engine_.reset();
    EXPECT_EQ(num_done, 1);
    EXPECT_EQ(ticket.Wait().ToString(), "ok");
  }
}

TEST_P(IoRequestKindsTest, LatenciesAreCountedPieceByPiece) {
  File file = NewFile(1_MiB);
  ASSERT_TRUE(Write(file, 0, At(0, 1_MiB)).ok());
  ASSERT_TRUE(Read(file, 0, At(0, 128_KiB)).ok());
  EXPECT_EQ(engine_->latency(IoDirection::kWrite).count(), 16u);
  EXPECT_EQ(engine_->latency(IoDirection::kRead).count(), 2u);
  EXPECT_GT(engine_->latency(IoDirection::kRead).Quantile(0.5).count(), 0);
}

}  // namespace
}  // namespace strata::aio
