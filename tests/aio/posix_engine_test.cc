// The engine on top of a disk that misbehaves: the system calls are replaced.
#include "aio/internal/posix_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <map>
#include <mutex>
#include <thread>

#include "aio/io_buffer.h"
#include "tests/aio/scratch.h"
#include "tests/aio/stderr_pipe.h"

namespace strata::aio {
namespace {

class PosixEngineTest : public testing::Test {
 protected:
  void Use(TransferFunction transfer) {
    IoEngineOptions options = {.backend = IoBackend::kPosix, .block_size_bytes = 16_KiB};
    engine_ = OrDie(PosixEngine::Create(options, std::move(transfer)));
  }
  std::span<std::byte> Memory(uint64_t offset_bytes) {
    return memory_.bytes().subspan(offset_bytes, 256_KiB);
  }
  void ExpectRoundTrip() {
    FillWithRandomBytes(Memory(0), 3);
    ASSERT_EQ(engine_->StartWrite(file_, 0, Memory(0)).Wait().ToString(), "ok");
    ASSERT_EQ(engine_->StartRead(file_, 0, Memory(256_KiB)).Wait().ToString(), "ok");
    EXPECT_TRUE(std::ranges::equal(Memory(0), Memory(256_KiB)));
  }

  ScratchDirectory directory_;
  std::string path_ = directory_.File("data");
  File file_ = OrDie(
      File::Open(path_, {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew}));
  HugeMemory memory_ = OrDie(HugeMemory::Map(512_KiB));
  std::unique_ptr<IoEngine> engine_;
};

TEST_F(PosixEngineTest, InterruptedCallsAreRepeated) {
  std::mutex mutex;
  std::map<std::pair<IoDirection, uint64_t>, int> calls;
  Use([&](const IoTransfer& transfer) -> int64_t {
    std::lock_guard lock(mutex);
    int call = calls[{transfer.direction, transfer.offset_bytes}]++;
    if (call == 0) return -EINTR;
    if (call == 1) return -EAGAIN;
    return TransferBySystemCall(transfer);
  });
  ExpectRoundTrip();
  EXPECT_EQ(engine_->counters().retries, 64u);  // 16 pieces, twice each, both ways
}

TEST_F(PosixEngineTest, TransfersThatStopAnywhereStillMoveEveryByte) {
  std::atomic<uint64_t> calls = 0;
  Use([&](IoTransfer transfer) -> int64_t {
    uint64_t limit_bytes = (calls++ % 3) * 4_KiB + 4_KiB;
    transfer.length_bytes = std::min(transfer.length_bytes, limit_bytes);
    return TransferBySystemCall(transfer);
  });
  ExpectRoundTrip();
  EXPECT_GT(engine_->counters().short_transfers, 0u);
}

TEST_F(PosixEngineTest, ADeviceErrorNamesFileOffsetLengthAndReason) {
  Use([](const IoTransfer& transfer) -> int64_t {
    return transfer.offset_bytes == 128_KiB ? -EIO : TransferBySystemCall(transfer);
  });
  Status status = engine_->StartWrite(file_, 4_KiB * 0, Memory(0)).Wait();
  EXPECT_EQ(status.code(), Code::kIoError);
  EXPECT_EQ(status.message(),
            "write " + path_ + " offset_bytes=0 length_bytes=262144: Input/output error");
}

TEST_F(PosixEngineTest, AWaitBeyondItsDeadlineSaysWhatIsOutstandingAndMayBeRepeated) {
  std::latch released(1);
  Use([&](const IoTransfer& transfer) -> int64_t {
    released.wait();
    return TransferBySystemCall(transfer);
  });
  IoTicket ticket = engine_->StartWrite(file_, 0, Memory(0));
  Status status = ticket.Wait(std::chrono::milliseconds(1));
  EXPECT_EQ(status.code(), Code::kDeadlineExceeded);
  EXPECT_THAT(status.message(), testing::HasSubstr("write " + path_ +
                                                   " offset_bytes=0 length_bytes=262144: not over "
                                                   "after 1 ms: "));
  EXPECT_TRUE(ticket.valid());
  EXPECT_FALSE(ticket.ready());
  released.count_down();
  EXPECT_EQ(ticket.Wait().ToString(), "ok");
  EXPECT_FALSE(ticket.valid());
}

TEST_F(PosixEngineTest, AnEngineThatClosesSaysWhatItWaitsForAndWaits) {
  std::latch released(1);
  engine_ = OrDie(PosixEngine::Create(
      {.backend = IoBackend::kPosix, .queue_depth = 1},
      [&](const IoTransfer& transfer) -> int64_t {
        released.wait();
        return TransferBySystemCall(transfer);
      },
      std::chrono::milliseconds(1)));
  IoTicket ticket = engine_->StartWrite(file_, 0, Memory(0));
  StderrPipe log;
  std::jthread closing([&] { engine_.reset(); });
  EXPECT_THAT(log.Read(),
              testing::HasSubstr("1 transfers are still with the kernel, one of write " + path_ +
                                 " offset_bytes=0 length_bytes=262144"));
  released.count_down();
  closing.join();
  EXPECT_EQ(ticket.Wait().ToString(), "ok");
}

TEST_F(PosixEngineTest, AtMostThreadsTimesDepthCallsAreInTheKernel) {
  std::atomic<int> inside = 0, most = 0;
  IoEngineOptions options = {
      .backend = IoBackend::kPosix, .block_size_bytes = 4_KiB, .queue_depth = 2, .thread_count = 2};
  engine_ = OrDie(PosixEngine::Create(options, [&](const IoTransfer& transfer) {
    int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    int64_t moved = TransferBySystemCall(transfer);
    --inside;
    return moved;
  }));
  ExpectRoundTrip();
  EXPECT_LE(most, 4);
}

}  // namespace
}  // namespace strata::aio
