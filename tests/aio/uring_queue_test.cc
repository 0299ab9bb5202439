// What only io_uring can meet: limits that refuse a part of it.
#include "aio/internal/uring_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "aio/io_buffer.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// A thread that may lock no more memory than others may.
bool DropLockingInThisThread() {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  data[0].effective &= ~(1u << CAP_IPC_LOCK);
  return syscall(SYS_capset, &header, data) == 0;
}

class LockedMemoryLimit {
 public:
  explicit LockedMemoryLimit(rlim_t bytes) {
    STRATA_CHECK(getrlimit(RLIMIT_MEMLOCK, &before_) == 0);
    rlimit limit = {.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    STRATA_CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  }
  ~LockedMemoryLimit() { STRATA_CHECK(setrlimit(RLIMIT_MEMLOCK, &before_) == 0); }

 private:
  rlimit before_;
};

TEST(UringQueueTest, WithoutTheRightToLockMemoryItWarnsOnceAndWorks) {
  HugeMemory memory = OrDie(HugeMemory::Map(16_MiB));
  // Enough for the rings, also when other processes of this user have locked some.
  LockedMemoryLimit limit(7_MiB);
  testing::internal::CaptureStderr();
  Result<std::unique_ptr<IoEngine>> engine = Internal("not created");
  bool dropped = false;
  std::jthread([&] {
    dropped = DropLockingInThisThread();
    engine = IoEngine::Create(
        {.backend = IoBackend::kIoUring, .thread_count = 2, .registered_memory = memory.bytes()});
  }).join();
  std::string log = testing::internal::GetCapturedStderr();
  if (engine.status().code() == Code::kUnavailable && !IsRequired("uring"))
    GTEST_SKIP() << engine.status().ToString();
  if (!dropped) GTEST_SKIP() << "capset is refused here";
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_THAT((*engine)->notes(),
              Contains(HasSubstr("not registered: register 16 MiB: Cannot allocate memory")));
  EXPECT_EQ(log.find("not registered"), log.rfind("not registered")) << log;
  EXPECT_THAT(log, HasSubstr("ulimit -l"));

  ScratchDirectory directory;
  File file = OrDie(File::Open(directory.File("data"), {.access = FileAccess::kReadWrite,
                                                        .create = FileCreate::kCreateNew}));
  EXPECT_EQ((*engine)->StartWrite(file, 0, memory.bytes()).Wait().ToString(), "ok");
}

// With the knobs that only io_uring has.
class UringKnobsTest : public testing::Test {
 protected:
  bool Use(IoEngineOptions options) {
    options.backend = IoBackend::kIoUring;
    options.block_size_bytes = 64_KiB;
    options.queue_depth = 8;
    Result<std::unique_ptr<IoEngine>> engine = IoEngine::Create(options);
    if (engine.status().code() == Code::kUnavailable && !IsRequired("uring")) return false;
    engine_ = OrDie(std::move(engine));
    return true;
  }
  std::span<std::byte> From() { return memory_.bytes().first(1_MiB); }
  std::span<std::byte> Into() { return memory_.bytes().last(1_MiB); }
  File Open(const std::string& name, bool direct = true) {
    return OrDie(File::Open(
        directory_.File(name),
        {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateOrOpen, .direct = direct}));
  }
  void ExpectRoundTrip(const File& file, uint64_t length_bytes) {
    FillWithRandomBytes(From(), ++seed_);
    ASSERT_EQ(engine_->StartWrite(file, 0, From().first(length_bytes)).Wait().ToString(), "ok");
    ASSERT_EQ(engine_->StartRead(file, 0, Into().first(length_bytes)).Wait().ToString(), "ok");
    EXPECT_TRUE(std::ranges::equal(From().first(length_bytes), Into().first(length_bytes)));
  }

  ScratchDirectory directory_;
  HugeMemory memory_ = OrDie(HugeMemory::Map(2_MiB));
  std::unique_ptr<IoEngine> engine_;
  uint64_t seed_ = 0;
};

TEST_F(UringKnobsTest, TheyMoveTheSameBytes) {
  for (bool sqpoll : {false, true}) {
    for (bool registered_files : {false, true}) {
      for (bool overlap_events : {false, true}) {
        if (!Use({.thread_count = 2,
                  .overlap_events = overlap_events,
                  .sqpoll = sqpoll,
                  .registered_files = registered_files,
                  .registered_memory = From()})) {
          GTEST_SKIP() << "no io_uring here";
        }
        File first = Open("first"), second = Open("second", false);
        ExpectRoundTrip(first, 1_MiB);
        ExpectRoundTrip(second, 1_MiB);
        ExpectRoundTrip(first, 100'001);  // its end goes to a second descriptor
      }
    }
  }
}

TEST_F(UringKnobsTest, ASpinningThreadOfTheKernelIsMentioned) {
  if (!Use({.sqpoll = true})) GTEST_SKIP() << "no io_uring here";
  EXPECT_THAT(engine_->notes(), Contains(HasSubstr("a kernel thread spins")));
}

TEST_F(UringKnobsTest, TheThreadOfTheKernelIsWokenAfterALongComputation) {
  if (!Use({.sqpoll = true})) GTEST_SKIP() << "no io_uring here";
  File file = Open("data");
  for (int i = 0; i < 3; ++i) {
    ExpectRoundTrip(file, 64_KiB);
    for (int k = 0; k < 20; ++k) FillWithRandomBytes(memory_.bytes(), static_cast<uint64_t>(k));
  }
}

TEST_F(UringKnobsTest, WhatCannotBePolledIsUnavailableAndSaysWhatToSet) {
  for (bool sqpoll : {false, true}) {
    if (!Use({.sqpoll = sqpoll, .iopoll = true})) GTEST_SKIP() << "no io_uring here";
    File cached = Open("cached", false);
    for (int i = 0; i < 20; ++i) {  // more than there are slots
      Status status = engine_->StartWrite(cached, 0, From().first(64_KiB)).Wait();
      EXPECT_EQ(status.code(), Code::kUnavailable) << status.message();
      EXPECT_THAT(status.message(), HasSubstr("write " + cached.path() + " offset_bytes=0"));
      EXPECT_THAT(status.message(), HasSubstr("set [aio] iopoll = false"));
      EXPECT_THAT(status.message(), HasSubstr("/sys/block/*/queue/io_poll"));
    }
  }
}

TEST_F(UringKnobsTest, ADrivePolledForCompletionsWorksOrSaysThatItCannot) {
  for (bool sqpoll : {false, true}) {
    if (!Use({.thread_count = 2, .sqpoll = sqpoll, .iopoll = true}))
      GTEST_SKIP() << "no io_uring here";
    File file = Open("data");
    // Writes that make a file longer are not polled, so one of them does not tell.
    Status status = engine_->StartWrite(file, 0, From()).Wait();
    if (status.ok()) status = engine_->StartRead(file, 0, Into()).Wait();
    if (status.code() == Code::kUnavailable) GTEST_SKIP() << status.message();
    for (int i = 0; i < 20; ++i) ExpectRoundTrip(file, 1_MiB);
  }
}

// What is in the page cache is there before the kernel has told that it took the submission.
TEST(UringSqpollTest, CompletionsThatOvertakeTheirSubmissionFindRoomForTheNext) {
  ScratchDirectory directory;
  File file = OrDie(File::Open(
      directory.File("data"),
      {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew, .direct = false}));
  ASSERT_TRUE(file.Preallocate(4_MiB).ok());
  HugeMemory memory = OrDie(HugeMemory::Map(4_MiB));
  for (uint64_t block_bytes : {4_KiB, 128_KiB}) {
    Result<std::unique_ptr<IoEngine>> engine = IoEngine::Create({.backend = IoBackend::kIoUring,
                                                                 .block_size_bytes = block_bytes,
                                                                 .queue_depth = 7,
                                                                 .sqpoll = true});
    if (engine.status().code() == Code::kUnavailable && !IsRequired("uring"))
      GTEST_SKIP() << engine.status().ToString();
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    for (int i = 0; i < 100; ++i)
      ASSERT_EQ((*engine)->StartRead(file, 0, memory.bytes()).Wait().ToString(), "ok");
  }
}

}  // namespace
}  // namespace strata::aio
