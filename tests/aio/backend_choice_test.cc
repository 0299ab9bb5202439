// Which backend is used when the kernel refuses some of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "aio/io_buffer.h"
#include "aio/io_engine.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"
#include "tests/aio/seccomp.h"

namespace strata::aio {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class BackendChoiceTest : public testing::Test {
 protected:
  // Creates an engine where `calls` fail; what was logged on the way is in log_.
  bool CreateRefused(std::initializer_list<long> calls, int error_number,
                     const IoEngineOptions& options = {}) {
    testing::internal::CaptureStderr();
    bool refused = RunRefused(calls, error_number, [&] { engine_ = IoEngine::Create(options); });
    log_ = testing::internal::GetCapturedStderr();
    return refused;
  }
  void ExpectItWorks() {
    ScratchDirectory directory;
    HugeMemory memory = OrDie(HugeMemory::Map(2_MiB));
    std::span<std::byte> from = memory.bytes().first(1_MiB), into = memory.bytes().last(1_MiB);
    FillWithRandomBytes(from, 1);
    File file = OrDie(File::Open(directory.File("data"), {.access = FileAccess::kReadWrite,
                                                          .create = FileCreate::kCreateNew}));
    EXPECT_EQ((*engine_)->StartWrite(file, 0, from).Wait().ToString(), "ok");
    EXPECT_EQ((*engine_)->StartRead(file, 0, into).Wait().ToString(), "ok");
    EXPECT_TRUE(std::ranges::equal(from, into));
  }
  int LogLines() const { return static_cast<int>(std::ranges::count(log_, '\n')); }

  Result<std::unique_ptr<IoEngine>> engine_ = Internal("not created");
  std::string log_;
};

#define STRATA_REFUSE_OR_SKIP(...) \
  if (!CreateRefused(__VA_ARGS__)) GTEST_SKIP() << "seccomp filters are refused here"

TEST_F(BackendChoiceTest, TheBestIsTakenWithoutAWord) {
  testing::internal::CaptureStderr();
  engine_ = IoEngine::Create({});
  log_ = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(engine_.ok()) << engine_.status().ToString();
  if ((*engine_)->backend() != IoBackend::kIoUring && !IsRequired("uring"))
    GTEST_SKIP() << "no io_uring here: " << log_;
  EXPECT_EQ((*engine_)->backend(), IoBackend::kIoUring);
  EXPECT_EQ(log_, "");
}

TEST_F(BackendChoiceTest, WithoutIoUringItIsLibaioAndOneLineSaysWhy) {
  STRATA_REFUSE_OR_SKIP({__NR_io_uring_setup}, EPERM);
  ASSERT_TRUE(engine_.ok()) << engine_.status().ToString();
  if ((*engine_)->backend() == IoBackend::kPosix && !IsRequired("uring"))
    GTEST_SKIP() << "no libaio here: " << log_;
  EXPECT_EQ((*engine_)->backend(), IoBackend::kLibaio);
  EXPECT_EQ(LogLines(), 1) << log_;
  EXPECT_THAT(log_,
              HasSubstr("warning aio: using libaio: io_uring_setup: Operation not permitted"));
  EXPECT_THAT(log_, HasSubstr("sysctl kernel.io_uring_disabled=0"));
  EXPECT_THAT((*engine_)->notes(), Contains(HasSubstr("using libaio: io_uring_setup")));
  ExpectItWorks();
}

TEST_F(BackendChoiceTest, WithoutBothItIsPosixAndOneLineSaysWhy) {
  STRATA_REFUSE_OR_SKIP({__NR_io_uring_setup, __NR_io_setup}, ENOSYS);
  ASSERT_TRUE(engine_.ok()) << engine_.status().ToString();
  EXPECT_EQ((*engine_)->backend(), IoBackend::kPosix);
  EXPECT_EQ(LogLines(), 1) << log_;
  EXPECT_THAT(log_, HasSubstr("using posix: io_uring_setup: "));
  EXPECT_THAT(log_, HasSubstr("; io_setup(17): "));
  ExpectItWorks();
}

TEST_F(BackendChoiceTest, WhatOnlyIoUringCanIsNotReplaced) {
  STRATA_REFUSE_OR_SKIP({__NR_io_uring_setup}, EPERM, {.sqpoll = true});
  EXPECT_EQ(engine_.status().code(), Code::kUnavailable);
  EXPECT_THAT(engine_.status().message(), HasSubstr("set [aio] sqpoll and iopoll to false"));
  EXPECT_EQ(LogLines(), 0) << log_;
}

TEST_F(BackendChoiceTest, ABackendAskedForByNameIsNotReplaced) {
  int before = NumOpenDescriptors();
  for (IoBackend backend : {IoBackend::kIoUring, IoBackend::kLibaio}) {
    for (int error_number : {EPERM, ENOSYS}) {
      STRATA_REFUSE_OR_SKIP({__NR_io_uring_setup, __NR_io_setup}, error_number,
                            {.backend = backend});
      EXPECT_EQ(engine_.status().code(), Code::kUnavailable);
      EXPECT_THAT(engine_.status().message(), HasSubstr("setup"));
      EXPECT_THAT(engine_.status().message(), HasSubstr("let this process use"));
      EXPECT_THAT(engine_.status().message(), HasSubstr("or set [aio] backend = \"auto\""));
    }
  }
  EXPECT_EQ(NumOpenDescriptors(), before);
}

TEST_F(BackendChoiceTest, AnExhaustedLimitOfLibaioNamesTheSettingThatRaisesIt) {
  STRATA_REFUSE_OR_SKIP({__NR_io_setup}, EAGAIN, {.backend = IoBackend::kLibaio});
  EXPECT_EQ(engine_.status().code(), Code::kUnavailable);
  EXPECT_THAT(engine_.status().message(), testing::ContainsRegex("fs.aio-nr = [0-9]+ of "
                                                                 "fs.aio-max-nr = [0-9]+"));
  EXPECT_THAT(engine_.status().message(), HasSubstr("sysctl -w fs.aio-max-nr="));
}

TEST_F(BackendChoiceTest, WithoutDescriptorsNothingIsReplacedAndTheLimitIsNamed) {
  for (IoBackend backend : {IoBackend::kIoUring, IoBackend::kLibaio}) {
    STRATA_REFUSE_OR_SKIP({__NR_io_uring_setup, __NR_eventfd2}, EMFILE, {.backend = backend});
    EXPECT_EQ(engine_.status().code(), Code::kResourceExhausted);
    EXPECT_THAT(engine_.status().message(), HasSubstr("Too many open files"));
    EXPECT_THAT(engine_.status().message(), HasSubstr("ulimit -n"));
  }
  STRATA_REFUSE_OR_SKIP({__NR_io_uring_setup, __NR_eventfd2}, EMFILE);
  EXPECT_EQ(engine_.status().code(), Code::kResourceExhausted);
}

}  // namespace
}  // namespace strata::aio
