#include "aio/bench/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "aio/io_buffer.h"
#include "tests/aio/mounts.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class BenchTargetTest : public testing::Test {
 protected:
  std::string MakeFile(const std::string& name, uint64_t size_bytes) {
    std::string content(size_bytes, '\0');
    FillWithRandomBytes(std::as_writable_bytes(std::span(content)), 3);
    std::ofstream(scratch_.File(name)) << content;
    return content;
  }
  std::string ReadBack(const std::string& name) {
    return OrDie(ReadSmallFile(scratch_.File(name), 64_MiB));
  }
  std::string MakeDirectory(const std::string& name) {
    std::filesystem::create_directory(scratch_.File(name));
    return scratch_.File(name);
  }
  ScratchDirectory scratch_;
};

TEST_F(BenchTargetTest, AScratchFileIsWrittenWholeAndHasNoName) {
  int descriptors = NumOpenDescriptors();
  {
    auto target = OrDie(BenchTarget::Create({.paths = {scratch_.path()}, .size_bytes = 9_MiB}));
    EXPECT_EQ(target->size_bytes(), 9_MiB);
    EXPECT_EQ(OrDie(target->files().files()[0].SizeBytes()), 9_MiB);
    EXPECT_TRUE(target->CheckWritable().ok());
    EXPECT_EQ(target->CheckAll().ToString(), "ok");
    EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
  }
  EXPECT_EQ(NumOpenDescriptors(), descriptors);
}

TEST_F(BenchTargetTest, SeveralDirectoriesAreOneRange) {
  auto target = OrDie(BenchTarget::Create({.paths = {MakeDirectory("a"), MakeDirectory("b")},
                                           .size_bytes = 7_MiB + 8_KiB,
                                           .shares = StripeShares::kEqual,
                                           .stripe_bytes = 64_KiB}));
  EXPECT_EQ(target->CheckAll().ToString(), "ok");
  uint64_t sum = 0;
  for (const TargetPath& path : target->paths()) {
    EXPECT_DOUBLE_EQ(path.share, 0.5);
    sum += path.size_bytes;
  }
  EXPECT_EQ(sum, 7_MiB + 8_KiB);
}

TEST_F(BenchTargetTest, SharesFollowWhatWasMeasured) {
  auto target = OrDie(BenchTarget::Create({.paths = {MakeDirectory("a"), MakeDirectory("b")},
                                           .size_bytes = 16_MiB,
                                           .stripe_bytes = 64_KiB}));
  double rates = 0, shares = 0;
  for (const TargetPath& path : target->paths()) {
    EXPECT_GT(path.read_bytes_per_s, 0);
    rates += path.read_bytes_per_s;
    shares += path.share;
  }
  EXPECT_DOUBLE_EQ(shares, 1);
  for (const TargetPath& path : target->paths())
    EXPECT_NEAR(path.share, path.read_bytes_per_s / rates, 0.05);
  EXPECT_EQ(target->CheckAll().ToString(), "ok");
}

TEST_F(BenchTargetTest, OfWhatFailsTheCheckItSaysWhichFileAndWhere) {
  auto target = OrDie(BenchTarget::Create({.paths = {MakeDirectory("a"), MakeDirectory("b")},
                                           .size_bytes = 1_MiB,
                                           .shares = StripeShares::kEqual,
                                           .stripe_bytes = 64_KiB}));
  // The fifth stripe is the third of the first file.
  int fd = OrDie(target->files().files()[0].BufferedFd());
  ASSERT_EQ(pwrite(fd, "x", 1, 128 * 1024 + 5000), 1);
  Status status = target->CheckAll();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(),
              HasSubstr("verify " + scratch_.File("a") +
                        "/(unnamed) offset_bytes=135168: corrupt: "
                        "1 of its 8-byte words are wrong, the first at byte 904"));
}

TEST_F(BenchTargetTest, AFileThatWasThereIsOnlyRead) {
  std::string content = MakeFile("data", 5000 * 4);
  auto target = OrDie(BenchTarget::Create({.paths = {scratch_.File("data")}}));
  EXPECT_EQ(target->size_bytes(), 16_KiB);
  EXPECT_THAT(target->notes(), ElementsAre("16 KiB are used: there is no more"));
  Status status = target->CheckWritable();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(scratch_.File("data")), HasSubstr("--destroy")));
  target.reset();
  EXPECT_EQ(ReadBack("data"), content);
}

TEST_F(BenchTargetTest, AFileIsOverwrittenOnlyWhenThatIsAllowedAndStays) {
  std::string content = MakeFile("data", 20000);
  auto target = OrDie(BenchTarget::Create(
      {.paths = {scratch_.File("data")}, .size_bytes = 8_KiB, .existing = ExistingData::kDestroy}));
  EXPECT_TRUE(target->CheckWritable().ok());
  EXPECT_EQ(target->CheckAll().ToString(), "ok");
  std::string after = ReadBack("data");
  EXPECT_EQ(after.size(), content.size());
  EXPECT_NE(after.substr(0, 8192), content.substr(0, 8192));
  EXPECT_EQ(after.substr(8192), content.substr(8192));  // beyond what was asked for
}

TEST_F(BenchTargetTest, HolesAreTold) {
  MakeFile("data", 4096);
  std::filesystem::resize_file(scratch_.File("data"), 1_MiB);
  auto target = OrDie(BenchTarget::Create({.paths = {scratch_.File("data")}, .size_bytes = 1_MiB}));
  EXPECT_THAT(target->notes(), ElementsAre(HasSubstr("has holes")));
}

TEST_F(BenchTargetTest, WhatIsReadAndWhatIsWrittenDoNotMix) {
  MakeFile("data", 1_MiB);
  Status status = BenchTarget::Create({.paths = {scratch_.path(), scratch_.File("data")}}).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("data is only read"), HasSubstr("--destroy")));
}

TEST_F(BenchTargetTest, PathsThatAreNoTargetAreNamed) {
  EXPECT_EQ(BenchTarget::Create({.paths = {"/no/such"}}).status().message(),
            "/no/such: No such file or directory");
  EXPECT_THAT(BenchTarget::Create({.paths = {"/dev/null"}}).status().message(),
              HasSubstr("/dev/null: neither a directory nor a file"));
  MakeFile("empty", 0);
  EXPECT_THAT(BenchTarget::Create({.paths = {scratch_.File("empty")}}).status().message(),
              HasSubstr("empty: has 0 bytes"));
}

TEST_F(BenchTargetTest, StopsWhileItWrites) {
  uint64_t done = 0;
  BytesProgress count = [&](std::string_view, uint64_t bytes, uint64_t) { done = bytes; };
  Status status =
      BenchTarget::Create({.paths = {scratch_.path()}, .size_bytes = 256_MiB}, count, [&] {
        return done > 0;
      }).status();
  EXPECT_EQ(status.code(), Code::kCancelled);
  EXPECT_LT(done, 256_MiB);
}

TEST_F(BenchTargetTest, AFullFileSystemIsSaidBeforeAnythingIsWritten) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(scratch_.File("m"), 32_MiB, ""));
  uint64_t written = 0;
  BytesProgress count = [&](std::string_view, uint64_t bytes, uint64_t) { written = bytes; };
  Status status =
      BenchTarget::Create({.paths = {mount->at()}, .size_bytes = 64_MiB}, count).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(mount->at() + ": "), HasSubstr("MiB are free"),
                                      HasSubstr("64 MiB are needed"), HasSubstr("--size")));
  EXPECT_EQ(written, 0u);
}

// Two directories of one file system share its room.
TEST_F(BenchTargetTest, RoomIsCountedPerFileSystem) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(scratch_.File("m"), 32_MiB, ""));
  std::filesystem::create_directory(mount->File("a"));
  std::filesystem::create_directory(mount->File("b"));
  Status status = BenchTarget::Create({.paths = {mount->File("a"), mount->File("b")},
                                       .size_bytes = 40_MiB,
                                       .shares = StripeShares::kEqual})
                      .status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
}

TEST_F(BenchTargetTest, AReadOnlyFileSystemIsNamed) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4(scratch_.File("m"), 32_MiB, ""));
  ASSERT_TRUE(mount->Remount("ro"));
  Status status = BenchTarget::Create({.paths = {mount->at()}, .size_bytes = 1_MiB}).status();
  EXPECT_EQ(status.message(), "make a file in " + mount->at() + ": Read-only file system");
}

TEST_F(BenchTargetTest, MemoryIsNoDriveAndSaysSo) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(scratch_.File("m"), "32m"));
  auto target = OrDie(BenchTarget::Create({.paths = {mount->at()}, .size_bytes = 4_MiB}));
  EXPECT_THAT(target->notes(), ElementsAre(HasSubstr("measures no drive")));
  EXPECT_EQ(target->CheckAll().ToString(), "ok");
}

TEST_F(BenchTargetTest, ABlockDeviceIsOnlyReadUnlessItMayBeDestroyed) {
  std::string content = MakeFile("image", 4_MiB);
  STRATA_LOOP_OR_SKIP(loop, TemporaryLoop::Attach(scratch_.File("image"), 4_MiB, 512));
  {
    auto target = OrDie(BenchTarget::Create({.paths = {loop->device()}}));
    EXPECT_EQ(target->size_bytes(), 4_MiB);
    EXPECT_EQ(target->CheckWritable().code(), Code::kFailedPrecondition);
  }
  EXPECT_EQ(ReadBack("image"), content);
  auto target =
      OrDie(BenchTarget::Create({.paths = {loop->device()}, .existing = ExistingData::kDestroy}));
  EXPECT_EQ(target->CheckAll().ToString(), "ok");
  EXPECT_THAT(target->notes(), ElementsAre(HasSubstr("4 MiB are used")));
}

}  // namespace
}  // namespace strata::aio
