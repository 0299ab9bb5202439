// The engine on top of a kernel that misbehaves: whatever it does, the bytes are right or the error
// is clear, nothing hangs, and no slot of the queue is lost.
#include "aio/internal/queue_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "aio/internal/retry.h"
#include "aio/io_buffer.h"
#include "tests/aio/fake_kernel_queue.h"
#include "tests/aio/scratch.h"
#include "tests/aio/stderr_pipe.h"

namespace strata::aio {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint32_t kDepth = 8;

class QueueEngineTest : public testing::Test {
 protected:
  static constexpr uint64_t kHalfBytes = 512_KiB;  // 32 pieces

  QueueEngineTest() { Use({}); }

  void Use(IoEngineOptions options) {
    options.block_size_bytes = block_bytes_;
    options.queue_depth = kDepth;
    engine_ = OrDie(QueueEngine::Create(options, IoBackend::kIoUring, [this] { return NewQueue(); },
                                        {.pause_step = std::chrono::milliseconds(0),
                                         .drain_report_every = std::chrono::milliseconds(1)}));
  }
  Result<std::unique_ptr<KernelQueue>> NewQueue() {
    return std::unique_ptr<KernelQueue>(new FakeKernelQueue(kernel_, kDepth, ++seed_));
  }

  void Submissions(FakeKernel::OnSubmit submit) {
    kernel_.BehaveLike(std::move(submit), TransferBySystemCall);
  }
  void Transfers(TransferFunction transfer) {
    kernel_.BehaveLike(FakeKernel::TakeAll, std::move(transfer));
  }

  std::span<std::byte> From() { return memory_.bytes().first(kHalfBytes); }
  std::span<std::byte> Into() { return memory_.bytes().last(kHalfBytes); }
  Status Write() { return engine_->StartWrite(file_, 0, From()).Wait(); }
  void ExpectRoundTrip() {
    FillWithRandomBytes(From(), ++seed_);
    ASSERT_EQ(Write().ToString(), "ok");
    ASSERT_EQ(engine_->StartRead(file_, 0, Into()).Wait().ToString(), "ok");
    EXPECT_TRUE(std::ranges::equal(From(), Into()));
  }
  // The kernel behaves again, and sees as many transfers at a time as ever.
  void ExpectNothingWasLost() {
    kernel_.BehaveLike(FakeKernel::TakeAll, TransferBySystemCall);
    kernel_.most_in_kernel = 0;
    ExpectRoundTrip();
    EXPECT_EQ(kernel_.most_in_kernel, kDepth);
  }

  uint64_t block_bytes_ = 16_KiB;
  FakeKernel kernel_;
  std::atomic<uint64_t> seed_ = 0;
  ScratchDirectory directory_;
  std::string path_ = directory_.File("data");
  File file_ = OrDie(
      File::Open(path_, {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew}));
  HugeMemory memory_ = OrDie(HugeMemory::Map(2 * kHalfBytes));
  std::unique_ptr<IoEngine> engine_;
};

// The kernel merges neighbours that it is given in one call.
TEST_F(QueueEngineTest, LargeTransfersGoTwoAtATimeSmallOnesAllAtOnce) {
  for (auto [block_bytes, limit] : {std::pair(64_KiB, size_t{8}), std::pair(128_KiB, size_t{2})}) {
    block_bytes_ = block_bytes;
    Use({});
    std::atomic<size_t> most = 0;
    Submissions([&most](size_t num_prepared) {
      most = std::max(most.load(), num_prepared);
      return FakeKernel::TakeAll(num_prepared);
    });
    ExpectRoundTrip();
    EXPECT_GE(most, limit);
    EXPECT_LE(most, limit + 1);  // with the wake-up
    Submissions(FakeKernel::TakeAll);
  }
}

TEST_F(QueueEngineTest, CompletionsMayComeInAnyOrder) {
  for (int i = 0; i < 5; ++i) ExpectRoundTrip();
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, AnInterruptedSubmissionIsRepeated) {
  Submissions([calls = 0](size_t num_prepared) mutable {
    return ++calls % 3 != 0 ? -EINTR : static_cast<int>(num_prepared);
  });
  ExpectRoundTrip();
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, WhatAPartialSubmissionLeavesGoesNext) {
  for (int at_most : {1, 3}) {
    Submissions([at_most](size_t) { return at_most; });
    ExpectRoundTrip();
  }
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, AKernelShortOfMemoryIsAskedAgain) {
  for (int error_number : {EAGAIN, EBUSY}) {
    Submissions([error_number, calls = 0](size_t) mutable {
      return ++calls % 10 != 0 ? -error_number : 2;
    });
    ExpectRoundTrip();
  }
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, AKernelThatNeverHasMemoryFailsTheRequestInTheEnd) {
  ASSERT_TRUE(Write().ok());
  Submissions([](size_t) { return -EAGAIN; });
  Status status = Write();
  EXPECT_EQ(status.message(), "write " + path_ +
                                  " offset_bytes=0 length_bytes=524288: "
                                  "Resource temporarily unavailable");
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, ShortTransfersAreResumed) {
  Transfers([random = std::mt19937(1)](IoTransfer transfer) mutable {
    transfer.length_bytes = std::min<size_t>(transfer.length_bytes, (1 + random() % 4) * 4_KiB);
    return TransferBySystemCall(transfer);
  });
  ExpectRoundTrip();
  EXPECT_GT(engine_->counters().short_transfers, 0u);
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, ADeviceErrorNamesTheRangeAndHarmsNoNeighbour) {
  ASSERT_TRUE(Write().ok());
  Transfers([](const IoTransfer& transfer) -> int64_t {
    return transfer.offset_bytes == 256_KiB ? -EIO : TransferBySystemCall(transfer);
  });
  IoTicket bad = engine_->StartRead(file_, 0, From());
  IoTicket good = engine_->StartRead(file_, 0, Into().first(128_KiB));
  EXPECT_EQ(bad.Wait().message(),
            "read " + path_ + " offset_bytes=0 length_bytes=524288: Input/output error");
  EXPECT_EQ(good.Wait().ToString(), "ok");
  ExpectNothingWasLost();
}

TEST_F(QueueEngineTest, ATransferIsRepeatedAHundredTimesAndNoMore) {
  ASSERT_TRUE(Write().ok());
  for (int refusals : {kMaxRetries, kMaxRetries + 1}) {
    Transfers([refusals, calls = 0](const IoTransfer& transfer) mutable -> int64_t {
      if (transfer.offset_bytes == 64_KiB && calls++ < refusals) return -EAGAIN;
      return TransferBySystemCall(transfer);
    });
    Status status = engine_->StartRead(file_, 0, Into()).Wait();
    EXPECT_EQ(status.ok(), refusals == kMaxRetries) << status.message();
  }
  EXPECT_GE(engine_->counters().retries, 2u * kMaxRetries);
  ExpectNothingWasLost();
}

FakeKernel::OnSubmit FaultySubmissions() {
  return [random = std::mt19937(1)](size_t num_prepared) mutable {
    constexpr std::array kErrors = {-EINTR, -EAGAIN, -EBUSY};
    size_t choice = random() % 6;
    if (choice < kErrors.size()) return kErrors[choice];
    return static_cast<int>(random() % (num_prepared + 1));
  };
}

TransferFunction FaultyTransfers() {
  return [random = std::mt19937(2)](IoTransfer transfer) mutable -> int64_t {
    if (random() % 4 == 0) return random() % 2 == 0 ? -EINTR : -EAGAIN;
    transfer.length_bytes = std::min<size_t>(transfer.length_bytes, (1 + random() % 4) * 4_KiB);
    return TransferBySystemCall(transfer);
  };
}

// Everything at once, with every way to submit and wait.
TEST_F(QueueEngineTest, UnderAllFaultsEveryKnobMovesTheSameBytes) {
  for (bool single_submit : {false, true}) {
    for (bool overlap_events : {false, true}) {
      Use({.single_submit = single_submit, .overlap_events = overlap_events});
      kernel_.BehaveLike(FaultySubmissions(), FaultyTransfers());
      for (int i = 0; i < 5; ++i) ExpectRoundTrip();
      ExpectNothingWasLost();
    }
  }
}

TEST_F(QueueEngineTest, ABatchIsOneCallAndSingleSubmitOneForEach) {
  for (bool single_submit : {false, true}) {
    Use({.single_submit = single_submit, .overlap_events = false});
    uint64_t before = kernel_.num_submits;
    ASSERT_TRUE(engine_->StartWrite(file_, 0, From().first(kDepth * 16_KiB)).Wait().ok());
    // A batch takes a few as well: the thread goes to sleep, is woken, and waits.
    uint64_t submits = kernel_.num_submits - before;
    EXPECT_EQ(submits >= kDepth, single_submit) << submits;
  }
}

TEST_F(QueueEngineTest, AQueueThatCannotBeMadeEndsThoseThatWere) {
  int num_made = 0;
  Status status =
      QueueEngine::Create({.queue_depth = kDepth, .thread_count = 3}, IoBackend::kIoUring,
                          [&]() -> Result<std::unique_ptr<KernelQueue>> {
                            if (++num_made == 3) return Unavailable("no third one");
                            return NewQueue();
                          })
          .status();
  EXPECT_EQ(status.ToString(), Unavailable("no third one").ToString());
}

TEST_F(QueueEngineTest, AnEngineThatClosesSaysWhatItWaitsForAndWaits) {
  kernel_.holds = true;
  IoTicket ticket = engine_->StartWrite(file_, 4_KiB, From());
  StderrPipe log;
  std::jthread closing([&] { engine_.reset(); });
  std::string line = log.Read();
  EXPECT_THAT(line, StartsWith("warning aio: closing: after 0 s "));
  EXPECT_THAT(line, HasSubstr("transfers are still with the kernel, one of write " + path_ +
                              " offset_bytes=4096 length_bytes=524288; look at the drive"));
  EXPECT_FALSE(ticket.ready());
  kernel_.Release();
  closing.join();
  EXPECT_EQ(ticket.Wait().ToString(), "ok");
}

}  // namespace
}  // namespace strata::aio
