// Drives and partitions as files: loop devices stand for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr FileOptions kClaim = {.access = FileAccess::kReadWrite,
                                .block_devices = BlockDevices::kAllow};

class BlockDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<TemporaryLoop> Attach(uint64_t size_bytes, uint32_t sector_bytes) {
    return TemporaryLoop::Attach(directory_.File("drive"), size_bytes, sector_bytes);
  }

  ScratchDirectory directory_;
};

TEST_F(BlockDeviceTest, IsRefusedUnlessItIsAllowed) {
  STRATA_LOOP_OR_SKIP(loop, Attach(1_MiB, 512));
  Status status = File::Open(loop->device(), {.access = FileAccess::kReadWrite}).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(status.message(), "open " + loop->device() + ": not a regular file");
}

TEST_F(BlockDeviceTest, HasTheSizeAndTheAlignmentOfTheDrive) {
  STRATA_LOOP_OR_SKIP(loop, Attach(3_MiB, 512));
  File file = OrDie(File::Open(loop->device(), kClaim));
  EXPECT_EQ(OrDie(file.SizeBytes()), 3_MiB);
  EXPECT_TRUE(file.direct());
  EXPECT_EQ(file.offset_alignment_bytes(), 512u);
}

TEST_F(BlockDeviceTest, CannotGrow) {
  STRATA_LOOP_OR_SKIP(loop, Attach(1_MiB, 512));
  File file = OrDie(File::Open(loop->device(), kClaim));
  EXPECT_EQ(file.Preallocate(4_KiB).ToString(), "ok");
  EXPECT_EQ(file.Preallocate(1_MiB).ToString(), "ok");
  EXPECT_EQ(OrDie(file.SizeBytes()), 1_MiB);
  Status status = file.Preallocate(1_MiB + 1);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "preallocate " + loop->device() + " size_bytes=1048577: the device has 1048576 bytes");
}

TEST_F(BlockDeviceTest, AMountedDriveIsRefusedForWritingAndReadable) {
  STRATA_LOOP_OR_SKIP(loop, Attach(8_MiB, 512));
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4On(loop->device(), directory_.File("mount")));
  int before = NumOpenDescriptors();
  Status status = File::Open(loop->device(), kClaim).status();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(loop->device() + ": the device is in use: mounted"),
                                      EndsWith("release it, or name another device")));
  EXPECT_EQ(NumOpenDescriptors(), before);
  EXPECT_TRUE(File::Open(loop->device(), {.block_devices = BlockDevices::kAllow}).ok());
}

TEST_F(BlockDeviceTest, TwoWritersAreOneTooMany) {
  STRATA_LOOP_OR_SKIP(loop, Attach(1_MiB, 512));
  {
    File first = OrDie(File::Open(loop->device(), kClaim));
    EXPECT_EQ(File::Open(loop->device(), kClaim).status().code(), Code::kFailedPrecondition);
  }
  EXPECT_TRUE(File::Open(loop->device(), kClaim).ok());
}

TEST_F(BlockDeviceTest, OptionsThatCreateOpenWhatIsThereOrRefuseIt) {
  STRATA_LOOP_OR_SKIP(loop, Attach(1_MiB, 512));
  FileOptions options = kClaim;
  options.create = FileCreate::kCreateOrOpen;
  EXPECT_EQ(File::Open(loop->device(), options).status().ToString(), "ok");
  options.create = FileCreate::kCreateNew;
  EXPECT_EQ(File::Open(loop->device(), options).status().code(), Code::kAlreadyExists);
}

TEST_F(BlockDeviceTest, AllowingDevicesAllowsNothingElse) {
  EXPECT_TRUE(File::Open("/dev/null", kClaim).status().code() == Code::kInvalidArgument);
  FileOptions options = kClaim;
  options.create = FileCreate::kCreateNew;
  EXPECT_TRUE(File::Open(directory_.File("new"), options).ok());
  EXPECT_TRUE(File::Open(directory_.File("new"), kClaim).ok());
}

// All backends check in the same place. The process that dies is a fork, which has no device to
// tidy.
TEST_F(BlockDeviceTest, AnOffsetThatTheDriveCannotTakeIsOurMistake) {
  STRATA_LOOP_OR_SKIP(loop, Attach(1_MiB, 4096));
  File file = OrDie(File::Open(loop->device(), kClaim));
  HugeMemory memory = OrDie(HugeMemory::Map(4_KiB));
  auto read_at_512 = [&] {
    auto engine = OrDie(IoEngine::Create({.backend = IoBackend::kPosix}));
    static_cast<void>(engine->StartRead(file, 512, memory.bytes()).Wait());
  };
  EXPECT_DEATH(read_at_512(), "check failed");
}

class EveryBackendOn4Kn : public BlockDeviceTest, public testing::WithParamInterface<IoBackend> {
 protected:
  void SetUp() override {
    loop_ = Attach(16_MiB, 4096);
    if (!loop_) GTEST_SKIP() << "loop devices are refused here (they need root)";
    auto engine = IoEngine::Create({.backend = GetParam(), .block_size_bytes = 64_KiB});
    if (!engine.ok() && engine.status().code() == Code::kUnavailable && !IsRequired("uring"))
      GTEST_SKIP() << engine.status().message();
    engine_ = OrDie(std::move(engine));
    FillWithRandomBytes(memory_.bytes().first(1_MiB), 7);
  }
  std::span<std::byte> Memory(uint64_t at, uint64_t length) {
    return memory_.bytes().subspan(at, length);
  }
  void ExpectARoundTrip(const File& file) {
    ASSERT_EQ(engine_->StartWrite(file, 4_KiB, Memory(0, 1_MiB)).Wait().ToString(), "ok");
    ASSERT_EQ(engine_->StartRead(file, 4_KiB, Memory(1_MiB, 1_MiB)).Wait().ToString(), "ok");
    EXPECT_EQ(std::memcmp(&memory_.bytes()[0], &memory_.bytes()[1_MiB], 1_MiB), 0);
  }

  std::unique_ptr<TemporaryLoop> loop_;
  HugeMemory memory_ = OrDie(HugeMemory::Map(2_MiB));
  std::unique_ptr<IoEngine> engine_;
};

TEST_P(EveryBackendOn4Kn, TheDriveWantsFourKiBAndGivesBackWhatWasWritten) {
  File file = OrDie(File::Open(loop_->device(), kClaim));
  EXPECT_EQ(file.offset_alignment_bytes(), 4096u);
  ExpectARoundTrip(file);
}

TEST_P(EveryBackendOn4Kn, SoDoFilesOnIt) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4On(loop_->device(), directory_.File("mount")));
  File file = OrDie(File::Open(
      mount->File("data"), {.access = FileAccess::kReadWrite, .create = FileCreate::kCreateNew}));
  EXPECT_EQ(file.offset_alignment_bytes(), 4096u);
  ASSERT_EQ(file.Preallocate(2_MiB).ToString(), "ok");
  ExpectARoundTrip(file);
}

// The last bytes go beside whole blocks, through a second descriptor of a device that is claimed.
TEST_P(EveryBackendOn4Kn, AnyLengthWorksAndTouchesNothingBehindIt) {
  File file = OrDie(File::Open(loop_->device(), kClaim));
  ASSERT_EQ(engine_->StartWrite(file, 0, Memory(0, 16_KiB)).Wait().ToString(), "ok");
  ASSERT_EQ(engine_->StartWrite(file, 0, Memory(512_KiB, 10'000)).Wait().ToString(), "ok");
  ASSERT_EQ(engine_->StartRead(file, 0, Memory(1_MiB, 16_KiB)).Wait().ToString(), "ok");
  const std::byte* memory = memory_.bytes().data();
  EXPECT_EQ(std::memcmp(memory + 1_MiB, memory + 512_KiB, 10'000), 0);
  EXPECT_EQ(std::memcmp(memory + 1_MiB + 10'000, memory + 10'000, 16_KiB - 10'000), 0);
}

TEST_P(EveryBackendOn4Kn, PastTheEndOfTheDriveIsAnErrorThatNamesThePlace) {
  File file = OrDie(File::Open(loop_->device(), kClaim));
  Status status = engine_->StartRead(file, 16_MiB, Memory(0, 4_KiB)).Wait();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  status = engine_->StartWrite(file, 16_MiB, Memory(0, 4_KiB)).Wait();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(status.message(), "write " + loop_->device() +
                                  " offset_bytes=16777216 length_bytes=4096: No space left on "
                                  "device");
}

std::string NameOf(const testing::TestParamInfo<IoBackend>& backend) {
  return std::string(IoBackendName(backend.param));
}
INSTANTIATE_TEST_SUITE_P(Backend, EveryBackendOn4Kn, testing::ValuesIn(kAllIoBackends), NameOf);

}  // namespace
}  // namespace strata::aio
