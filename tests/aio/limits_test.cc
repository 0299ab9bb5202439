// What a system may refuse: writing here, one more descriptor, direct I/O.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/io_buffer.h"
#include "aio/io_engine.h"
#include "tests/aio/mounts.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr FileOptions kCreate = {.access = FileAccess::kReadWrite,
                                 .create = FileCreate::kCreateOrOpen};

class LimitsTest : public testing::Test {
 protected:
  ScratchDirectory directory_;
};

TEST_F(LimitsTest, AReadOnlyMountSaysSoAndCanBeRead) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(directory_.File("mount"), "1m"));
  ASSERT_EQ(OrDie(File::Open(mount->File("data"), kCreate)).Preallocate(4_KiB).ToString(), "ok");
  ASSERT_TRUE(mount->Remount("ro"));
  Status status = File::Open(mount->File("data"), kCreate).status();
  EXPECT_EQ(status.code(), Code::kPermissionDenied);
  EXPECT_EQ(status.message(), "open " + mount->File("data") + ": Read-only file system");
  EXPECT_EQ(WriteFileAtomically(mount->File("m"), "x").code(), Code::kPermissionDenied);
  EXPECT_EQ(OrDie(OrDie(File::Open(mount->File("data"), {})).SizeBytes()), 4_KiB);
}

// root may write anywhere, so somebody else tries: in a fork, which ends without
// the leak check that sanitizers cannot make as somebody else.
TEST_F(LimitsTest, ADirectoryThatIsNotOursSaysSo) {
  std::filesystem::permissions(directory_.path(), std::filesystem::perms(0555));
  auto try_as_nobody = [&] {
    if (geteuid() == 0 && (setegid(65534) != 0 || seteuid(65534) != 0)) _exit(2);
    Status status = File::Open(directory_.File("data"), kCreate).status();
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    _exit(0);
  };
  EXPECT_EXIT(try_as_nobody(), testing::ExitedWithCode(0),
              "permission denied: open .*/data: Permission denied");
}

TEST_F(LimitsTest, WithoutADescriptorLeftOpeningFailsAndLaterWorks) {
  std::string path = directory_.File("data");
  ASSERT_TRUE(WriteFileAtomically(path, "content").ok());
  int before = NumOpenDescriptors();
  {
    DescriptorLimit limit(0);
    Status status = File::Open(path, {}).status();
    EXPECT_EQ(status.code(), Code::kResourceExhausted);
    EXPECT_EQ(status.message(), "open " + path + ": Too many open files");
    EXPECT_EQ(ReadSmallFile(path, 100).status().code(), Code::kResourceExhausted);
    EXPECT_EQ(WriteFileAtomically(path, "x").code(), Code::kResourceExhausted);
  }
  EXPECT_EQ(NumOpenDescriptors(), before);
  EXPECT_EQ(OrDie(ReadSmallFile(path, 100)), "content");
  EXPECT_TRUE(File::Open(path, {}).ok());
}

class EveryBackendTest : public LimitsTest, public testing::WithParamInterface<IoBackend> {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<IoEngine>> engine = IoEngine::Create({.backend = GetParam()});
    if (!engine.ok() && engine.status().code() == Code::kUnavailable && !IsRequired("uring"))
      GTEST_SKIP() << engine.status().message();
  }
};

// Fails at each place where it takes a descriptor in turn, until there are enough.
TEST_P(EveryBackendTest, AnEngineThatRunsOutOfDescriptorsLeavesNoneBehind) {
  constexpr int kEnough = 64;
  int before = NumOpenDescriptors();
  int num_more = 0;
  for (; num_more < kEnough; ++num_more) {
    Status status;
    {
      DescriptorLimit limit(num_more);
      status = IoEngine::Create({.backend = GetParam(), .thread_count = 3}).status();
    }
    EXPECT_EQ(NumOpenDescriptors(), before) << num_more;
    if (status.ok()) break;
    EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.message();
    EXPECT_THAT(status.message(), HasSubstr("Too many open files"));
  }
  EXPECT_LT(num_more, kEnough);
}

TEST_P(EveryBackendTest, WithoutDirectIoTheSameBytesArrive) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(directory_.File("mount"), "1m"));
  File file = OrDie(File::Open(mount->File("data"), kCreate));
  ASSERT_EQ(file.Preallocate(1_MiB).ToString(), "ok");
  HugeMemory memory = OrDie(HugeMemory::Map(2_MiB));
  std::span<std::byte> from = memory.bytes().first(1_MiB), to = memory.bytes().subspan(1_MiB);
  FillWithRandomBytes(from, 3);
  auto engine = OrDie(IoEngine::Create({.backend = GetParam(), .block_size_bytes = 64_KiB}));
  EXPECT_EQ(engine->StartWrite(file, 0, from).Wait().ToString(), "ok");
  EXPECT_EQ(engine->StartRead(file, 0, to).Wait().ToString(), "ok");
  EXPECT_EQ(std::memcmp(from.data(), to.data(), from.size()), 0);
  Status full = engine->StartWrite(file, 1_MiB, from).Wait();
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  EXPECT_THAT(full.message(), AllOf(HasSubstr(file.path()), HasSubstr("No space left")));
}

INSTANTIATE_TEST_SUITE_P(Backend, EveryBackendTest, testing::ValuesIn(kAllIoBackends),
                         [](const auto& backend) {
                           return std::string(IoBackendName(backend.param));
                         });

}  // namespace
}  // namespace strata::aio
