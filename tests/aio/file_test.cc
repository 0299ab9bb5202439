#include "aio/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "aio/base/units.h"
#include "tests/aio/mounts.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  Result<File> Create(const std::string& path) {
    return File::Open(path,
                      {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateOrOpen});
  }

  ScratchDirectory directory_;
  std::string path_ = directory_.File("data");
};

TEST_F(FileTest, DirectFilesTellTheAlignmentOfTheirFileSystem) {
  File file = OrDie(Create(path_));
  if (!file.direct()) GTEST_SKIP() << "no direct I/O in " << directory_.path();
  EXPECT_GE(file.offset_alignment_bytes(), 512u);
  EXPECT_EQ(4096 % file.offset_alignment_bytes(), 0u);
  EXPECT_EQ(4096 % file.memory_alignment_bytes(), 0u);
}

TEST_F(FileTest, WithoutDirectIoTheFileGoesThroughThePageCache) {
  File file = OrDie(File::Open("/proc/self/status", {}));
  EXPECT_FALSE(file.direct());
  EXPECT_EQ(file.offset_alignment_bytes(), 1u);
  EXPECT_EQ(file.memory_alignment_bytes(), 1u);
}

// In a process of its own, since it is said once per process.
TEST(FileDeathTest, ThatThereIsNoDirectIoIsSaidOncePerFileSystem) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto open_three = [] {
    bool ok = File::Open("/proc/self/status", {}).ok() && File::Open("/proc/self/maps", {}).ok() &&
              File::Open("/proc/self/statm", {}).ok();
    std::exit(ok ? 0 : 1);
  };
  EXPECT_EXIT(open_three(), testing::ExitedWithCode(0),
              "^warning aio: the file system of /proc/self/status has no direct I/O: its files go "
              "through the page cache\n$");
}

TEST_F(FileTest, AMissingFileIsNotFoundAndNamed) {
  Status status = File::Open(path_, {}).status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(status.message(), "open " + path_ + ": No such file or directory");
}

TEST_F(FileTest, CreatingNewRefusesWhatIsThere) {
  std::ofstream(path_) << "precious";
  FileOptions options = {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew};
  EXPECT_EQ(File::Open(path_, options).status().code(), Code::kAlreadyExists);
  EXPECT_EQ(OrDie(ReadSmallFile(path_, 100)), "precious");
}

TEST_F(FileTest, OpeningFailuresLeakNoDescriptor) {
  int before = NumOpenDescriptors();
  EXPECT_FALSE(File::Open(directory_.path(), {}).ok());
  EXPECT_FALSE(File::Open(path_, {}).ok());
  EXPECT_FALSE(WriteFileAtomically(directory_.File("missing/file"), "x").ok());
  EXPECT_FALSE(ReadSmallFile(directory_.path(), 100).ok());
  EXPECT_EQ(NumOpenDescriptors(), before);
}

TEST_F(FileTest, MovedFilesCloseOnce) {
  int before = NumOpenDescriptors();
  {
    File one = OrDie(Create(path_));
    File two = OrDie(Create(directory_.File("other")));
    two = std::move(one);
    EXPECT_EQ(two.path(), path_);
    EXPECT_TRUE(two.SizeBytes().ok());
  }
  EXPECT_EQ(NumOpenDescriptors(), before);
}

TEST_F(FileTest, PreallocatingGivesSizeAndBlocksAndKeepsContent) {
  std::ofstream(path_) << "content";
  File file = OrDie(Create(path_));
  ASSERT_EQ(file.Preallocate(1_MiB).ToString(), "ok");
  EXPECT_EQ(OrDie(file.SizeBytes()), 1_MiB);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_GE(static_cast<uint64_t>(info.st_blocks) * 512, 1_MiB);
  EXPECT_EQ(OrDie(ReadSmallFile(path_, 1_MiB)), "content" + std::string(1_MiB - 7, '\0'));
  EXPECT_EQ(file.SyncData().ToString(), "ok");
}

TEST_F(FileTest, PreallocatingCutsALargerFile) {
  File file = OrDie(Create(path_));
  ASSERT_TRUE(file.Preallocate(1_MiB).ok());
  ASSERT_EQ(file.Preallocate(4_KiB).ToString(), "ok");
  EXPECT_EQ(OrDie(file.SizeBytes()), 4_KiB);
  ASSERT_EQ(file.Preallocate(0).ToString(), "ok");
  EXPECT_EQ(OrDie(file.SizeBytes()), 0u);
}

TEST_F(FileTest, AFullDiskIsFoundWhenPreallocating) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(directory_.File("mount"), "1m"));
  File file = OrDie(Create(mount->File("data")));
  Status status = file.Preallocate(4_MiB);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "preallocate " + mount->File("data") + " size_bytes=4194304: No space left on device");
}

TEST_F(FileTest, FileSystemsWithoutFallocateGetZerosWritten) {
  STRATA_MOUNT_OR_SKIP(mount,
                       TemporaryMount::Ext4(directory_.File("mount"), 8_MiB, "-O ^extent,^64bit"));
  std::ofstream(mount->File("data")) << "content";
  File file = OrDie(Create(mount->File("data")));
  ASSERT_EQ(file.Preallocate(64_KiB).ToString(), "ok");
  EXPECT_EQ(OrDie(ReadSmallFile(file.path(), 1_MiB)), "content" + std::string(64_KiB - 7, '\0'));
  Status status = file.Preallocate(64_MiB);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("size_bytes=67108864"));
  EXPECT_THAT(status.message(), EndsWith("No space left on device"));
}

TEST_F(FileTest, AtomicWritesReplaceTheWholeFile) {
  ASSERT_EQ(WriteFileAtomically(path_, "the first, longer content").ToString(), "ok");
  ASSERT_EQ(WriteFileAtomically(path_, "second").ToString(), "ok");
  EXPECT_EQ(OrDie(ReadSmallFile(path_, 100)), "second");
  ASSERT_EQ(WriteFileAtomically(path_, "").ToString(), "ok");
  EXPECT_EQ(OrDie(ReadSmallFile(path_, 100)), "");
}

TEST_F(FileTest, AFailedAtomicWriteLeavesTheOldFileAndNoLitter) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(directory_.File("mount"), "64k"));
  std::string path = mount->File("manifest");
  ASSERT_TRUE(WriteFileAtomically(path, "old").ok());
  Status status = WriteFileAtomically(path, std::string(1_MiB, 'x'));
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(OrDie(ReadSmallFile(path, 100)), "old");
  std::filesystem::directory_iterator files(std::filesystem::path(path).parent_path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);
}

TEST_F(FileTest, WhatAKilledWriterLeftBehindIsNoObstacle) {
  std::ofstream(path_ + ".tmp") << std::string(1000, 'x');
  ASSERT_EQ(WriteFileAtomically(path_, "new").ToString(), "ok");
  EXPECT_EQ(OrDie(ReadSmallFile(path_, 100)), "new");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
}

TEST_F(FileTest, SmallFilesHaveALimit) {
  std::ofstream(path_) << std::string(101, 'x');
  EXPECT_EQ(OrDie(ReadSmallFile(path_, 101)).size(), 101u);
  Status status = ReadSmallFile(path_, 100).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message(), "read " + path_ + ": larger than the 100 bytes expected of it");
}

TEST(UnnamedFileTest, WorksLikeAnyOtherAndNeverHasAName) {
  ScratchDirectory scratch;
  File file = OrDie(File::Open(scratch.path(),
                               {.access = FileAccess::kReadWrite, .create = FileCreate::kUnnamed}));
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
  ASSERT_TRUE(file.Preallocate(1_MiB).ok());
  EXPECT_EQ(OrDie(file.SizeBytes()), 1_MiB);
  EXPECT_GE(OrDie(file.BufferedFd()), 0);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(UnnamedFileTest, NeedsADirectoryAndNamesIt) {
  Status status = File::Open("/no/such/place",
                             {.access = FileAccess::kReadWrite, .create = FileCreate::kUnnamed})
                      .status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(status.message(), "make a file in /no/such/place: No such file or directory");
}

}  // namespace
}  // namespace strata::aio
