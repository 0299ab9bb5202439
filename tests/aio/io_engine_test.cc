// One suite over every backend: what a user of IoEngine may rely on.
#include "aio/io_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "tests/aio/every_backend.h"
#include "tests/aio/mounts.h"

namespace strata::aio {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

INSTANTIATE_TEST_SUITE_P(Backends, IoEngineTest, testing::ValuesIn(kAllIoBackends), NameOfBackend);

TEST_P(IoEngineTest, WhatIsWrittenIsReadBack) {
  ExpectRoundTrip(3_MiB + 4_KiB);  // many pieces, the last one small
}

TEST_P(IoEngineTest, RegisteredMemoryHoldsTheSameBytes) {
  IoEngineOptions options = Options();
  options.registered_memory = memory_.bytes();
  Use(options);
  if (GetParam() == IoBackend::kIoUring) {
    EXPECT_THAT(engine_->notes(), Contains(HasSubstr("registered 8 MiB in 1 chunk")));
  }
  ExpectRoundTrip(3_MiB + 4_KiB);
}

TEST_P(IoEngineTest, ARequestMayLieHalfInRegisteredMemory) {
  IoEngineOptions options = Options();
  options.registered_memory = At(1_MiB + 4_KiB, 1_MiB);
  Use(options);
  ExpectRoundTrip(3_MiB);
}

TEST_P(IoEngineTest, SeveralThreadsOneRequest) {
  IoEngineOptions options = Options();
  options.thread_count = 3;
  Use(options);
  ExpectRoundTrip(4_MiB);
}

TEST_P(IoEngineTest, EveryKnobMovesTheSameBytes) {
  for (bool single_submit : {false, true}) {
    for (bool overlap_events : {false, true}) {
      for (uint32_t queue_depth : {1, 5}) {
        IoEngineOptions options = Options();
        options.thread_count = 2;
        options.queue_depth = queue_depth;
        options.single_submit = single_submit;
        options.overlap_events = overlap_events;
        Use(options);
        ExpectRoundTrip(1_MiB);
      }
    }
  }
}

TEST_P(IoEngineTest, FilesThroughThePageCacheNeedNoAlignment) {
  File file = OrDie(File::Open(
      path_,
      {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew, .direct = false}));
  FillWithRandomBytes(At(0, 100'001), 1);
  ASSERT_EQ(Write(file, 77, At(0, 100'001)).ToString(), "ok");
  ASSERT_EQ(Read(file, 77, At(4_MiB + 3, 100'001)).ToString(), "ok");
  EXPECT_TRUE(std::ranges::equal(At(0, 100'001), At(4_MiB + 3, 100'001)));
}

TEST_P(IoEngineTest, ReadPastTheEndIsDataLossAndNamesTheFile) {
  File file = NewFile(64_KiB);
  Status status = Read(file, 60_KiB, At(0, 8_KiB));
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_EQ(status.message(), "read " + path_ +
                                  " offset_bytes=61440 length_bytes=8192: "
                                  "the file ends at or before byte 65536");
}

TEST_P(IoEngineTest, AFileThatEndsInsideABlockIsDataLoss) {
  std::ofstream(path_) << std::string(5000, 'x');
  File file = OrDie(File::Open(path_, {}));
  EXPECT_EQ(Read(file, 0, At(0, 8_KiB)).code(), Code::kDataLoss);
  EXPECT_EQ(Read(file, 4_KiB, At(0, 4_KiB)).code(), Code::kDataLoss);
}

TEST_P(IoEngineTest, AFileCutOffAfterOpeningIsDataLoss) {
  File file = NewFile(1_MiB);
  std::filesystem::resize_file(path_, 256_KiB);
  EXPECT_EQ(Read(file, 0, At(0, 1_MiB)).code(), Code::kDataLoss);
}

TEST_P(IoEngineTest, WritingAReadOnlyFileFailsAndNamesTheRange) {
  NewFile(1_MiB);
  File file = OrDie(File::Open(path_, {.access = FileAccess::kReadOnly}));
  EXPECT_EQ(Write(file, 4_KiB, At(0, 128_KiB)).message(),
            "write " + path_ + " offset_bytes=4096 length_bytes=131072: Bad file descriptor");
}

TEST_P(IoEngineTest, AFailedRequestDoesNotHarmItsNeighbours) {
  File file = NewFile(1_MiB);
  IoTicket bad = engine_->StartRead(file, 512_KiB, At(0, 2_MiB));
  IoTicket good = engine_->StartRead(file, 0, At(2_MiB, 1_MiB));
  EXPECT_EQ(bad.Wait().code(), Code::kDataLoss);
  EXPECT_EQ(good.Wait().ToString(), "ok");
}

// The kernel writes what fits below the limit, then refuses: a short transfer and its resumption.
TEST_P(IoEngineTest, AWriteAcrossTheSizeLimitIsResumedAndThenReported) {
  File file = NewFile(0);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = {.rlim_cur = 32_KiB, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  Status status = Write(file, 0, At(0, 64_KiB));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("length_bytes=65536: File too large"));
  EXPECT_EQ(engine_->counters().short_transfers, 1u);
  EXPECT_EQ(engine_->counters().bytes_written, 32_KiB);
}

TEST_P(IoEngineTest, AFullFileSystemIsResourceExhausted) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(directory_.File("mount"), "1m"));
  path_ = mount->File("data");
  File file = NewFile(0);
  Status status = Write(file, 0, At(0, 2_MiB));
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "write " + path_ + " offset_bytes=0 length_bytes=2097152: No space left on device");
}

// The file system's device loses its end: reads of what was there fail in the kernel.
TEST_P(IoEngineTest, ADeviceErrorIsAnIoErrorAndNamesTheRange) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(directory_.File("mount"), 8_MiB, ""));
  path_ = mount->File("data");
  File file = NewFile(2_MiB);
  ASSERT_TRUE(Write(file, 0, At(0, 2_MiB)).ok());
  ASSERT_TRUE(file.SyncData().ok());
  std::filesystem::resize_file(mount->image(), 64_KiB);
  Status status = Read(file, 0, At(0, 2_MiB));
  EXPECT_EQ(status.code(), Code::kIoError);
  EXPECT_EQ(status.message(),
            "read " + path_ + " offset_bytes=0 length_bytes=2097152: Input/output error");
}

// Threads with a region of the file each, four requests in flight per thread.
class RandomTraffic {
 public:
  static constexpr uint64_t kRegionBytes = 512_KiB, kLaneBytes = 128_KiB;

  RandomTraffic(IoEngine& engine, const File& file, uint64_t region, std::span<std::byte> memory)
      : engine_(engine),
        file_(file),
        begin_bytes_(region * kRegionBytes),
        memory_(memory),
        random_(region) {}

  void Run(int num_rounds) {
    STRATA_CHECK(engine_.StartWrite(file_, begin_bytes_, memory_).Wait().ok());
    model_.assign(memory_.begin(), memory_.end());
    for (int round = 0; round < num_rounds && !testing::Test::HasFailure(); ++round) Round();
  }

 private:
  struct Operation {
    bool is_write;
    uint64_t at_bytes, length_bytes;
    IoTicket ticket;
  };

  void Round() {
    std::vector<Operation> operations;
    for (uint64_t lane = 0; lane < kRegionBytes / kLaneBytes; ++lane)
      operations.push_back(Start(lane * kLaneBytes));
    for (Operation& operation : operations) {
      EXPECT_EQ(operation.ticket.Wait().ToString(), "ok");
      if (operation.is_write) continue;
      EXPECT_TRUE(std::equal(
          model_.begin() + static_cast<ptrdiff_t>(operation.at_bytes),
          model_.begin() + static_cast<ptrdiff_t>(operation.at_bytes + operation.length_bytes),
          memory_.begin() + static_cast<ptrdiff_t>(operation.at_bytes)));
    }
  }

  Operation Start(uint64_t lane_begin_bytes) {
    uint64_t first = random_() % 32, num_blocks = 1 + random_() % (32 - first);
    Operation operation = {.is_write = random_() % 2 == 0,
                           .at_bytes = lane_begin_bytes + first * 4_KiB,
                           .length_bytes = num_blocks * 4_KiB,
                           .ticket = {}};
    std::span<std::byte> memory = memory_.subspan(operation.at_bytes, operation.length_bytes);
    uint64_t offset_bytes = begin_bytes_ + operation.at_bytes;
    if (operation.is_write) {
      FillWithRandomBytes(memory, random_());
      std::ranges::copy(memory, model_.begin() + static_cast<ptrdiff_t>(operation.at_bytes));
      operation.ticket = engine_.StartWrite(file_, offset_bytes, memory);
    } else {
      std::ranges::fill(memory, std::byte{0});
      operation.ticket = engine_.StartRead(file_, offset_bytes, memory);
    }
    return operation;
  }

  IoEngine& engine_;
  const File& file_;
  uint64_t begin_bytes_;
  std::span<std::byte> memory_;
  std::mt19937_64 random_;
  std::vector<std::byte> model_;
};

TEST_P(IoEngineTest, ManyThreadsAndRandomRangesAgreeWithAModelInMemory) {
  IoEngineOptions options = Options();
  options.block_size_bytes = 16_KiB;
  options.thread_count = 2;
  options.registered_memory = At(0, 1_MiB);  // half of it
  Use(options);
  File file = NewFile(4 * RandomTraffic::kRegionBytes);
  std::vector<std::jthread> threads;
  for (uint64_t region = 0; region < 4; ++region) {
    threads.emplace_back([&, region] {
      std::span<std::byte> memory =
          At(region * RandomTraffic::kRegionBytes, RandomTraffic::kRegionBytes);
      RandomTraffic(*engine_, file, region, memory).Run(40);
    });
  }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kManyRequests = 10'000;
constexpr bool kMemoryIsOurs = false;  // a sanitizer keeps a history of its own
#else
constexpr int kManyRequests = 100'000;
constexpr bool kMemoryIsOurs = true;
#endif

// From the page cache, as it is the engine that is on trial. Every fourth request fails.
TEST_P(IoEngineTest, AHundredThousandRequestsLeaveNothingBehind) {
  NewFile(64_KiB);
  File file = OrDie(File::Open(path_, {.direct = false}));
  auto run = [&](int num_requests) {
    for (int i = 0; i < num_requests; i += 32) {
      std::array<IoTicket, 32> tickets;
      for (size_t k = 0; k < tickets.size(); ++k)
        tickets[k] = engine_->StartRead(file, k % 4 == 3 ? 1_MiB : 0, At(k * 4_KiB, 4_KiB));
      for (size_t k = 0; k < tickets.size(); ++k) ASSERT_EQ(tickets[k].Wait().ok(), k % 4 != 3);
    }
  };
  run(1000);
  int descriptors = NumOpenDescriptors();
  size_t heap_bytes = mallinfo2().uordblks;
  int64_t resident_bytes = ResidentBytes();
  run(kManyRequests);
  EXPECT_EQ(NumOpenDescriptors(), descriptors);
  // Threads keep some freed blocks to themselves; a leak of a byte per request would be more.
  EXPECT_LT(mallinfo2().uordblks, heap_bytes + 64_KiB);
  if (kMemoryIsOurs) {
    EXPECT_LT(ResidentBytes(), resident_bytes + int64_t{4_MiB});
  }
}

// More than fits into the kernel at once, and a thread that is perhaps just being woken.
TEST_P(IoEngineTest, AnEngineThatClosesFinishesWhatWasStarted) {
  File file = NewFile(4_MiB);
  for (int i = 0; i < 30; ++i) {
    Use(Options());
    IoTicket ticket = engine_->StartRead(file, 0, At(0, 4_MiB));
    engine_.reset();
    EXPECT_TRUE(ticket.ready());
    EXPECT_EQ(ticket.Wait().ToString(), "ok");
  }
}

TEST_P(IoEngineTest, EnginesGiveTheirDescriptorsBack) {
  engine_.reset();
  int before = NumOpenDescriptors();
  for (int i = 0; i < 10; ++i) Use(Options());
  engine_.reset();
  EXPECT_EQ(NumOpenDescriptors(), before);
}

TEST_P(IoEngineTest, KnobsOutOfRangeAreRefusedByName) {
  IoEngineOptions options = Options();
  options.block_size_bytes = 5000;
  EXPECT_THAT(IoEngine::Create(options).status().message(), HasSubstr("block_size = 5000"));
  options = Options();
  options.queue_depth = 0;
  EXPECT_THAT(IoEngine::Create(options).status().message(), HasSubstr("queue_depth = 0"));
  options = Options();
  options.thread_count = 1000;
  EXPECT_THAT(IoEngine::Create(options).status().message(), HasSubstr("thread_count = 1000"));
}

TEST(IoBackendTest, WhatOnlyIoUringCanIsRefusedToOthers) {
  for (IoBackend backend : {IoBackend::kLibaio, IoBackend::kPosix}) {
    Status status = IoEngine::Create({.backend = backend, .sqpoll = true}).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.message(),
              "[aio] sqpoll = true with backend = \"" + std::string(IoBackendName(backend)) +
                  "\", which cannot: set backend = \"io_uring\" or sqpoll = false");
    status = IoEngine::Create({.backend = backend, .iopoll = true}).status();
    EXPECT_THAT(status.message(), HasSubstr("[aio] iopoll = true with backend"));
    EXPECT_TRUE(IoEngine::Create({.backend = backend, .registered_files = true}).ok());
  }
}

TEST(IoBackendTest, NamesAreParsedAndOthersAnsweredWithTheChoices) {
  for (IoBackend backend : kAllIoBackends)
    EXPECT_EQ(OrDie(ParseIoBackend(IoBackendName(backend))), backend);
  EXPECT_EQ(ParseIoBackend("uring").status().message(),
            "'uring' is not an I/O backend: choose \"io_uring\", \"libaio\" or \"posix\"");
}

TEST_P(IoEngineTest, CountersSayWhatWasMoved) {
  File file = NewFile(1_MiB);
  ASSERT_TRUE(Write(file, 0, At(0, 1_MiB)).ok());
  ASSERT_TRUE(Read(file, 0, At(0, 128_KiB)).ok());
  IoCounters counters = engine_->counters();
  EXPECT_EQ(counters.bytes_written, 1_MiB);
  EXPECT_EQ(counters.bytes_read, 128_KiB);
  EXPECT_EQ(counters.requests, 2u);
  EXPECT_EQ(counters.pieces, 18u);
  EXPECT_EQ(counters.short_transfers, 0u);
  EXPECT_EQ(counters.retries, 0u);
}

TEST_P(IoEngineTest, DoneIsCalledOnceAfterTheTicketBecameReady) {
  File file = NewFile(1_MiB);
  std::atomic<int> calls = 0;
  {
    IoTicket ticket = engine_->StartRead(file, 0, At(0, 1_MiB), {.done = [&] { ++calls; }});
    ASSERT_TRUE(ticket.Wait().ok());
  }
  engine_.reset();  // its threads have ended
  EXPECT_EQ(calls, 1);
}

TEST_P(IoEngineTest, ADroppedTicketWaitsForItsMemory) {
  File file = NewFile(4_MiB);
  FillWithRandomBytes(At(0, 4_MiB), 5);
  ASSERT_TRUE(Write(file, 0, At(0, 4_MiB)).ok());
  { IoTicket dropped = engine_->StartRead(file, 0, At(4_MiB, 4_MiB)); }
  EXPECT_TRUE(std::ranges::equal(At(0, 4_MiB), At(4_MiB, 4_MiB)));
}

TEST_P(IoEngineTest, AReplacedTicketWaitsForItsMemory) {
  File file = NewFile(4_MiB);
  FillWithRandomBytes(At(0, 4_MiB), 6);
  ASSERT_TRUE(Write(file, 0, At(0, 4_MiB)).ok());
  IoTicket ticket = engine_->StartRead(file, 0, At(4_MiB, 4_MiB));
  ticket = IoTicket();
  EXPECT_FALSE(ticket.valid());
  EXPECT_TRUE(std::ranges::equal(At(0, 4_MiB), At(4_MiB, 4_MiB)));
}
// All backends check in the same place. Needs no scratch file: the process that dies cannot tidy.
TEST(IoEngineDeathTest, MisalignedRequestsAreTheCallersMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  File file = OrDie(File::Open(STRATA_SOURCE_DIR "/CMakeLists.txt", {}));
  if (!file.direct()) GTEST_SKIP() << "no direct I/O where the sources are";
  std::unique_ptr<IoEngine> engine = OrDie(IoEngine::Create({.backend = IoBackend::kPosix}));
  HugeMemory memory = OrDie(HugeMemory::Map(4_KiB));
  EXPECT_DEATH(engine->StartRead(file, 1, memory.bytes()), "check failed");
  EXPECT_DEATH(engine->StartRead(file, 0, memory.bytes().subspan(1)), "check failed");
  EXPECT_DEATH(engine->StartRead(file, 0, {}), "check failed");
}

}  // namespace
}  // namespace strata::aio
