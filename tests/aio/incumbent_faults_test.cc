// Where others were seen to report success for bytes that never reached the drive, to abort or to
// hang: the same cases, on every backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <vector>

#include "aio/io_buffer.h"
#include "tests/aio/backends.h"
#include "tests/aio/mounts.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"
#include "tests/aio/seccomp.h"

namespace strata::aio {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

class IncumbentFaultsTest : public testing::TestWithParam<IoBackend> {
 protected:
  void SetUp() override {
    STRATA_BACKEND_OR_SKIP(GetParam());
    engine_ = OrDie(IoEngine::Create({.backend = GetParam()}));
    FillWithRandomBytes(memory_.bytes(), 5);
  }

  std::span<std::byte> At(uint64_t offset_bytes, uint64_t length_bytes) const {
    return memory_.bytes().subspan(offset_bytes, length_bytes);
  }
  static File NewFile(const std::string& path) {
    return OrDie(
        File::Open(path, {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew}));
  }
  // By another way than it was written.
  static bool HoldsBytes(const std::string& path, std::span<const std::byte> expected) {
    std::vector<char> found(expected.size() + 1);
    std::ifstream file(path, std::ios::binary);
    file.read(found.data(), static_cast<std::streamsize>(found.size()));
    return file.gcount() == static_cast<std::streamsize>(expected.size()) &&
           std::memcmp(found.data(), expected.data(), expected.size()) == 0;
  }

  ScratchDirectory directory_;
  HugeMemory memory_ = OrDie(HugeMemory::Map(64_MiB));
  std::unique_ptr<IoEngine> engine_;
};

INSTANTIATE_TEST_SUITE_P(Backends, IncumbentFaultsTest, EachBackend(), NameOfBackend);

TEST_P(IncumbentFaultsTest, AMisalignedTailIsOnDiskToTheByte) {
  constexpr uint64_t kLengthBytes = 4'195'304;  // 4 MiB and 1000 bytes
  File file = NewFile(directory_.File("data"));
  ASSERT_EQ(engine_->StartWrite(file, 0, At(0, kLengthBytes)).Wait().ToString(), "ok");
  EXPECT_EQ(std::filesystem::file_size(file.path()), kLengthBytes);
  EXPECT_TRUE(HoldsBytes(file.path(), At(0, kLengthBytes)));
}

TEST_P(IncumbentFaultsTest, AFileSizeLimitIsAnErrorThatNamesFileAndRange) {
  File file = NewFile(directory_.File("data"));
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = {.rlim_cur = 1_MiB, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  Status fits = engine_->StartWrite(file, 0, At(0, 1_MiB)).Wait();
  Status status = engine_->StartWrite(file, 0, At(0, 4_MiB)).Wait();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(fits.ToString(), "ok");
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "write " + file.path() + " offset_bytes=0 length_bytes=4194304: File too large");
  EXPECT_TRUE(HoldsBytes(file.path(), At(0, 1_MiB)));
}

TEST_P(IncumbentFaultsTest, AFullDiskIsAnErrorAndWhatWasReportedAsWrittenIsThere) {
  constexpr uint64_t kRequestBytes = 4_MiB;
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(directory_.File("mount"), 24_MiB, ""));
  File file = NewFile(mount->File("data"));
  uint64_t written_bytes = 0;
  Status status;
  for (; written_bytes < 64_MiB; written_bytes += kRequestBytes) {
    status = engine_->StartWrite(file, written_bytes, At(written_bytes, kRequestBytes)).Wait();
    if (!status.ok()) break;
  }
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(), "write " + file.path() +
                                  " offset_bytes=" + std::to_string(written_bytes) +
                                  " length_bytes=4194304: No space left on device");
  EXPECT_GE(written_bytes, 8_MiB);
  EXPECT_EQ(file.SyncData().ToString(), "ok");
  HugeMemory found = OrDie(HugeMemory::Map(written_bytes));
  ASSERT_EQ(engine_->StartRead(file, 0, found.bytes()).Wait().ToString(), "ok");
  EXPECT_TRUE(std::ranges::equal(found.bytes(), At(0, written_bytes)));
  EXPECT_EQ(engine_->StartWrite(file, 0, At(0, 64_MiB)).Wait().code(), Code::kResourceExhausted);
}

TEST_P(IncumbentFaultsTest, AQueueThatTheKernelDoesNotGiveIsAnErrorAndNotAHang) {
  int before = NumOpenDescriptors();
  Status status = IoEngine::Create({.backend = GetParam(), .queue_depth = 200'000}).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("queue_depth = 200000: set 1 to "));
  // As a whole more than libaio has by default, and no trouble for the others.
  IoEngineOptions large = {.backend = GetParam(), .queue_depth = 4096, .thread_count = 64};
  uint64_t most = 0;
  std::ifstream("/proc/sys/fs/aio-max-nr") >> most;
  bool refused = GetParam() == IoBackend::kLibaio && most < 64 * 4096;
  status = IoEngine::Create(large).status();
  EXPECT_EQ(status.ok(), !refused) << status.ToString();
  if (refused) {
    EXPECT_EQ(status.code(), Code::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr("fs.aio-max-nr"));
  }
  EXPECT_EQ(NumOpenDescriptors(), before);
}

TEST_P(IncumbentFaultsTest, AKernelWithoutMemoryForAQueueIsAnErrorAndNotAHang) {
  int before = NumOpenDescriptors();
  Status status;
  bool filtered = RunRefused({__NR_io_uring_setup, __NR_io_setup}, ENOMEM, [&] {
    status = IoEngine::Create({.backend = GetParam(), .thread_count = 2}).status();
  });
  if (!filtered) GTEST_SKIP() << "seccomp filters are refused here";
  if (GetParam() == IoBackend::kPosix) {
    EXPECT_EQ(status.ToString(), "ok");  // it needs neither
  } else {
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.message(), AllOf(HasSubstr("setup"), HasSubstr("Cannot allocate memory")));
  }
  EXPECT_EQ(NumOpenDescriptors(), before);
}

// A drive that takes a little and then nothing more: a sparse image on a full file system.
class FailingDriveTest : public IncumbentFaultsTest {
 protected:
  void SetUp() override {
    IncumbentFaultsTest::SetUp();
    if (IsSkipped()) return;
    mount_ = TemporaryMount::Tmpfs(directory_.File("mount"), "2m");
    if (mount_) loop_ = TemporaryLoop::Attach(mount_->File("image"), 64_MiB, 512);
    if (!loop_) GTEST_SKIP() << "mounts or loop devices are refused here (they need root)";
    std::ofstream filler(mount_->File("filler"));
    while (filler) filler << std::string(64_KiB, 'x') << std::flush;
  }
  File OpenDrive(bool direct) const {
    return OrDie(File::Open(loop_->device(), {.access = FileAccess::kReadWrite,
                                              .direct = direct,
                                              .block_devices = BlockDevices::kAllow}));
  }

  std::unique_ptr<TemporaryMount> mount_;
  std::unique_ptr<TemporaryLoop> loop_;
};

INSTANTIATE_TEST_SUITE_P(Backends, FailingDriveTest, EachBackend(), NameOfBackend);

TEST_P(FailingDriveTest, AFailedWriteIsAnErrorThatNamesTheRange) {
  File file = OpenDrive(/*direct=*/true);
  Status status = engine_->StartWrite(file, 8_MiB, At(0, 4_MiB)).Wait();
  EXPECT_THAT(
      status.message(),
      AllOf(HasSubstr("write " + file.path() + " offset_bytes=8388608 length_bytes=4194304"),
            AnyOf(HasSubstr("Input/output error"), HasSubstr("No space left"))));
}

// It goes through the page cache, which would take it: that it fails shows that it was written
// through to the drive before it was reported.
TEST_P(FailingDriveTest, ATailIsReportedOnlyWhenItIsOnTheDrive) {
  File file = OpenDrive(/*direct=*/true);
  Status status = engine_->StartWrite(file, 16_MiB, At(0, 100)).Wait();
  EXPECT_THAT(status.message(),
              HasSubstr("write " + file.path() + " offset_bytes=16777216 length_bytes=100: "));
}

// The kernel drops what it could not write, and reports that once.
TEST_P(FailingDriveTest, AFailedSyncIsFinal) {
  File file = OpenDrive(/*direct=*/false);
  ASSERT_EQ(engine_->StartWrite(file, 8_MiB, At(0, 4_MiB)).Wait().ToString(), "ok");
  Status first = file.SyncData();
  EXPECT_FALSE(first.ok());
  EXPECT_THAT(first.message(), HasSubstr("fdatasync " + file.path()));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(file.SyncData().ToString(), first.ToString());
  File moved = std::move(file);
  EXPECT_EQ(moved.SyncData().ToString(), first.ToString());
}

}  // namespace
}  // namespace strata::aio
