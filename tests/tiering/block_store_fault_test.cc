// What the block store does when the world fails: drives, files, file systems, other jobs.
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/tiering/store_fixture.h"
#include "tiering/block_store.h"
#include "tiering/internal/store_files.h"

namespace strata::tiering {
namespace {

namespace fs = std::filesystem;
using fakes::FaultKind;
using testing::AllOf;
using testing::HasSubstr;

void FlipByte(const std::string& path, uint64_t offset_bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset_bytes));
  int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset_bytes));
  file.put(static_cast<char>(byte ^ 0x10));
  file.close();
  ASSERT_TRUE(file.good());
}

uint64_t FileSystemFreeBytes(const std::string& path) { return fs::space(path).available; }

// A file system of its own, where the test may mount one.
class TmpfsMount {
 public:
  explicit TmpfsMount(const std::string& options, unsigned long flags = 0)
      : error_(mount("strata-test", dir_.path().c_str(), "tmpfs", flags, options.c_str()) == 0
                   ? 0
                   : errno) {}
  TmpfsMount(const TmpfsMount&) = delete;
  TmpfsMount& operator=(const TmpfsMount&) = delete;
  ~TmpfsMount() {
    if (error_ != 0) return;
    // Detached at once; gone when the store that a test still has on it is closed.
    EXPECT_EQ(umount2(dir_.path().c_str(), MNT_DETACH), 0) << std::strerror(errno);
  }

  bool ok() const { return error_ == 0; }
  std::string refusal() const {
    return std::string("mounting is refused: ") + std::strerror(error_);
  }
  const std::string& path() const { return dir_.path(); }

 private:
  TempDir dir_;
  int error_;
};

// Puts something that cannot be flushed in the place of a file's descriptor.
class UnflushableFile {
 public:
  explicit UnflushableFile(const std::string& path) {
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      if (fs::read_symlink(entry.path(), error) == path) fd_ = std::stoi(entry.path().filename());
    }
    STRATA_CHECK(fd_ >= 0 && pipe(pipe_.data()) == 0);
    original_ = dup(fd_);
    STRATA_CHECK(dup2(pipe_[0], fd_) == fd_);
  }
  UnflushableFile(const UnflushableFile&) = delete;
  UnflushableFile& operator=(const UnflushableFile&) = delete;
  ~UnflushableFile() {
    STRATA_CHECK(dup2(original_, fd_) == fd_);
    for (int fd : {original_, pipe_[0], pipe_[1]}) close(fd);
  }

 private:
  int fd_ = -1;
  int original_ = -1;
  std::array<int, 2> pipe_ = {};
};

class StoreFaultTest : public StoreTest {
 protected:
  std::string Blocks() const { return Folder() + "/rank-0.blocks"; }
  std::string ManifestPath(uint64_t number) const {
    return Folder() + "/rank-0.manifest-" + std::to_string(number);
  }
};

TEST_F(StoreFaultTest, AWriteThatFailsNamesTheBlockAndLeavesTheVersionBefore) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  engine_.SpoilWrite({}, 1);
  Status status = store_.Write(0, 2);
  EXPECT_EQ(status.code(), Code::kIoError);
  EXPECT_THAT(status.message(), HasSubstr("block 'a'"));
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_TRUE(store_.Write(0, 2).ok());
}

TEST_F(StoreFaultTest, AnOverwriteThatFailsBeforeTheCommitIsUndoneByRollback) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  ASSERT_TRUE(store_.Write(0, 2).ok());
  engine_.SpoilWrite({}, 1);
  ASSERT_FALSE(store_.Write(0, 3).ok());
  EXPECT_FALSE(store_->HasVersion(StoreBlock{0}));
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_EQ(store_->counters().live_bytes, 16_KiB);
}

TEST_F(StoreFaultTest, AWriteTheDriveLostOrBentIsFoundOnReading) {
  ASSERT_TRUE(Create(Options()).ok());
  for (FaultKind fault : {FaultKind::kLost, FaultKind::kTorn, FaultKind::kFlipped}) {
    engine_.SpoilWrite({fault}, 1);
    ASSERT_TRUE(store_.Write(0, 1).ok());
    Status status = store_.Read(0).status();
    EXPECT_EQ(status.code(), Code::kDataLoss);
    EXPECT_THAT(status.message(), HasSubstr("block 'a' (not committed yet)"));
    Status checked = store_->Check(StoreBlock{0}, store_.Padded(0).first(4_KiB));
    EXPECT_EQ(checked.message(), status.message());
  }
}

TEST_F(StoreFaultTest, AnOverwriteTheDriveLostOrToreIsNotTakenForTheVersionBefore) {
  ASSERT_TRUE(Create(Options()).ok());
  for (FaultKind fault : {FaultKind::kLost, FaultKind::kTorn}) {
    CommitSeeds(1);
    engine_.SpoilWrite({fault}, 1);
    CommitSeeds(2);  // nobody notices yet
    Status status = store_.Read(0).status();
    EXPECT_EQ(status.code(), Code::kDataLoss);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("block 'a' (generation "), HasSubstr(Blocks()),
                                        HasSubstr("checksum")));
    EXPECT_TRUE(store_.Holds(1, 1002));
    ASSERT_TRUE(store_.Write(0, 1).ok());
  }
}

// No process that opens the store later sees it either.
TEST_F(StoreFaultTest, AWriteThatWasLostBeforeACommitIsFoundByWhoOpensTheStore) {
  ASSERT_TRUE(Create(Options(3)).ok());
  CommitSeeds(1, /*pin=*/true);
  engine_.SpoilWrite({FaultKind::kLost}, 1);
  CommitSeeds(2);
  ASSERT_TRUE(Open(Options(3)).ok());
  EXPECT_THAT(store_.Read(0).status().message(), HasSubstr("block 'a' (generation 2)"));
  ASSERT_TRUE(Open(Options(3), 1).ok());
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreFaultTest, ADriveThatIsFullAllOfASuddenIsNamedAndTheGenerationBeforeStays) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  engine_.SpoilWrite({.error_number = ENOSPC}, 1);
  Status status = store_.Write(0, 2);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("block 'a'"), HasSubstr(Blocks()),
                                      HasSubstr("No space left on device")));
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreFaultTest, AFailureOnTheWayToACommitLeavesTheGenerationBeforeToWhoOpensTheStore) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  ASSERT_TRUE(store_.Write(0, 2).ok());
  engine_.SpoilWrite({}, 1);
  EXPECT_EQ(store_.Write(1, 1002).code(), Code::kIoError);
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_EQ(CommitSeeds(2), 2u);
  EXPECT_TRUE(HoldsSeeds(2));
}

TEST_F(StoreFaultTest, AReadThatFailsNamesTheBlockAndMayBeRepeated) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  engine_.SpoilRead({}, 1);
  EXPECT_THAT(store_.Read(1).status().message(), HasSubstr("block 'b' (generation 1)"));
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreFaultTest, AFlippedByteOnDiskIsFoundAndNamedByBlockGenerationFileAndExtent) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  store_.Reset();
  FlipByte(Blocks(), 5000);  // the first extents are those of the larger block
  ASSERT_TRUE(Open(Options()).ok());
  Status status = store_.Read(0).status();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("block 'a' (generation 1) in " + Blocks()),
                    HasSubstr("offset_bytes=0 length_bytes=12288"), HasSubstr("checksum")));
  EXPECT_TRUE(store_.Holds(1, 1001));
}

TEST_F(StoreFaultTest, AFlippedByteInThePaddingHarmsNobody) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  FlipByte(Blocks(), 12000);
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreFaultTest, ChecksumsAreLookedAtAsOftenAsAskedFor) {
  BlockStoreOptions options = Options();
  options.verify = Verify::kOff;
  ASSERT_TRUE(Create(options).ok());
  CommitSeeds(1);
  store_.Reset();
  FlipByte(Blocks(), 0);
  ASSERT_TRUE(Open(options).ok());
  EXPECT_TRUE(store_.Read(0).ok());
  options.verify = Verify::kSampled;
  ASSERT_TRUE(Open(options).ok());
  int found = 0;
  for (int i = 0; i < 64; ++i) found += store_.Read(0).ok() ? 0 : 1;
  EXPECT_EQ(found, 4);
}

TEST_F(StoreFaultTest, ADamagedManifestIsPassedOverForTheGenerationBefore) {
  ASSERT_TRUE(Create(Options(3)).ok());
  CommitSeeds(1, true);
  CommitSeeds(2);
  store_.Reset();
  FlipByte(ManifestPath(2), 40);
  ASSERT_TRUE(Open(Options(3)).ok());
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_EQ(CommitSeeds(3), 3u) << "numbers only grow";
  EXPECT_FALSE(fs::exists(ManifestPath(2)));
}

TEST_F(StoreFaultTest, AManifestThatCannotBeReadIsAnErrorAndStays) {
  ASSERT_TRUE(Create(Options(3)).ok());
  CommitSeeds(1, true);
  CommitSeeds(2);
  store_.Reset();
  const std::string kept = dir_.path() + "/kept";
  fs::rename(ManifestPath(2), kept);
  fs::create_symlink("/proc/self/mem",
                     ManifestPath(2));  // nothing can be read at its offset 0: EIO
  Status status = Open(Options(3));
  EXPECT_EQ(status.code(), Code::kIoError);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(ManifestPath(2)), HasSubstr("try again")));
  fs::rename(kept, ManifestPath(2));
  ASSERT_TRUE(Open(Options(3)).ok());
  EXPECT_TRUE(HoldsSeeds(2));
}

TEST_F(StoreFaultTest, AFileSystemOfLargerAlignmentThanSlotsIsRefusedNamingPathAndAlignment) {
  EXPECT_TRUE(CheckDirectIo("/nvme/blocks", 4096, 512).ok());
  for (auto [offset_bytes, memory_bytes] : {std::pair(16384, 512), std::pair(512, 16384)}) {
    Status status = CheckDirectIo("/nvme/blocks", offset_bytes, memory_bytes);
    EXPECT_EQ(status.code(), Code::kUnimplemented);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("/nvme/blocks"), HasSubstr("16384")));
  }
}

TEST_F(StoreFaultTest, WithoutAWholeManifestThereIsNothingToOpenAndNothingIsOverwritten) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  store_.Reset();
  fs::resize_file(ManifestPath(1), fs::file_size(ManifestPath(1)) / 2);
  Status status = Open(Options());
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("all manifests are damaged"));
  EXPECT_EQ(Create(Options()).code(), Code::kAlreadyExists);
}

TEST_F(StoreFaultTest, ACrashBetweenANewManifestAndTheRemovalOfTheOldOneIsTidiedUp) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  fs::copy_file(ManifestPath(1), dir_.path() + "/old");
  CommitSeeds(2);
  store_.Reset();
  fs::copy_file(dir_.path() + "/old", ManifestPath(1));
  std::ofstream(ManifestPath(3) + ".tmp") << "half a manif";
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(2));
  EXPECT_FALSE(fs::exists(ManifestPath(1)));
  EXPECT_FALSE(fs::exists(ManifestPath(3) + ".tmp"));
  EXPECT_EQ(CommitSeeds(3), 3u);
}

TEST_F(StoreFaultTest, AManifestThatCannotBeWrittenLeavesTheGenerationBefore) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  ASSERT_TRUE(store_.Write(0, 2).ok());
  fs::create_directories(ManifestPath(2) + "/in the way");
  Status status = store_->Commit("", false).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr("committing generation 2"));
  EXPECT_EQ(store_->generations().size(), 1u);
  fs::remove_all(ManifestPath(2));
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_EQ(CommitSeeds(3), 3u);
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(3));
}

// The drive may have dropped what it could not write, and would not say so a second time.
TEST_F(StoreFaultTest, AfterAFailedFlushThereIsNoCommitUntilTheStoreIsOpenedAnew) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  ASSERT_TRUE(store_.Write(0, 2).ok());
  {
    UnflushableFile broken(fs::canonical(Blocks()));
    EXPECT_THAT(store_->Commit("", false).status().message(), HasSubstr("fdatasync"));
  }
  EXPECT_THAT(store_->Commit("", false).status().message(),
              AllOf(HasSubstr("open the store anew"), HasSubstr("fdatasync " + Blocks())));
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_THAT(store_->Commit("", false).status().message(), HasSubstr("open the store anew"));
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(1));
  EXPECT_EQ(CommitSeeds(2), 2u);
}

TEST_F(StoreFaultTest, ABlocksFileThatWasCutOffIsDataLossAndNamesIt) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  store_.Reset();
  fs::resize_file(Blocks(), 4096);
  Status status = Open(Options());
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(Blocks() + " has 4096 bytes"));
  fs::remove(Blocks());
  EXPECT_THAT(Open(Options()).message(), HasSubstr(Blocks()));
}

TEST_F(StoreFaultTest, ADirectoryThatIsMissingOrNoneIsNamed) {
  BlockStoreOptions missing = Options();
  missing.directories = {dir_.path() + "/nowhere"};
  Status status = Create(missing);
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("NVMe directory " + missing.directories[0]), HasSubstr("mkdir -p")));
  BlockStoreOptions file = Options();
  file.directories = {dir_.path() + "/a-file"};
  std::ofstream(file.directories[0]) << "no directory";
  status = Create(file);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(file.directories[0] + ": Not a directory"));
}

TEST_F(StoreFaultTest, AReadOnlyFileSystemIsNamed) {
  TmpfsMount mount("size=16m", MS_RDONLY);
  if (!mount.ok()) GTEST_SKIP() << mount.refusal();
  BlockStoreOptions options = Options();
  options.directories = {mount.path()};
  Status status = Create(options);
  EXPECT_EQ(status.code(), Code::kPermissionDenied);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(mount.path()), HasSubstr("Read-only")));
}

TEST_F(StoreFaultTest, TooLittleSpaceIsSaidBeforeAnythingIsWrittenAndNothingStays) {
  BlockStoreOptions options = Options();
  std::vector<BlockDescription> huge = {
      Durable("huge", FileSystemFreeBytes(dir_.path()) / 8192 * 4096 + 64_MiB)};
  uint64_t writes = engine_.num_writes();
  Status status = BlockStore::Create(options, huge, &engine_).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(dir_.path()), HasSubstr("are missing")));
  EXPECT_EQ(engine_.num_writes(), writes);
  EXPECT_FALSE(fs::exists(Folder()));
}

TEST_F(StoreFaultTest, SpaceThatAnotherRankTookMeanwhileIsMissedTogether) {
  TmpfsMount mount("size=1m");
  if (!mount.ok()) GTEST_SKIP() << mount.refusal();
  BlockStoreOptions options = Options();
  options.directories = {mount.path()};
  std::vector<BlockDescription> blocks = {Durable("half", 300_KiB)};
  auto first = OrDie(BlockStore::Create(options, blocks, &engine_));
  options.rank = 1;
  Status status = BlockStore::Create(options, blocks, &engine_).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_FALSE(fs::exists(mount.path() + "/strata-test/rank-1.blocks"));
  EXPECT_FALSE(fs::exists(mount.path() + "/strata-test/rank-1.lock"));
  EXPECT_TRUE(fs::exists(mount.path() + "/strata-test/rank-0.blocks"));
}

TEST_F(StoreFaultTest, AManifestThatFindsTheFileSystemFullLeavesTheGenerationBefore) {
  TmpfsMount mount("size=1m");
  if (!mount.ok()) GTEST_SKIP() << mount.refusal();
  BlockStoreOptions options = Options();
  options.directories = {mount.path()};
  ASSERT_TRUE(Create(options).ok());
  CommitSeeds(1);
  ASSERT_TRUE(store_.Write(0, 2).ok());
  std::string filler = mount.path() + "/filler";
  std::ofstream(filler) << std::string(2_MiB, 'x');
  EXPECT_EQ(store_->Commit("", false).status().code(), Code::kResourceExhausted);
  store_->Rollback();
  EXPECT_TRUE(HoldsSeeds(1));
  fs::remove(filler);
  CommitSeeds(3);
  ASSERT_TRUE(Open(options).ok());
  EXPECT_TRUE(HoldsSeeds(3));
}

TEST_F(StoreFaultTest, AnInitialisationThatFailsLeavesNothingBehind) {
  engine_.SpoilWrite({}, 1);
  Status status = Create(Options());
  EXPECT_EQ(status.code(), Code::kIoError);
  EXPECT_THAT(status.message(), HasSubstr("initialising"));
  EXPECT_FALSE(fs::exists(Folder()));
  EXPECT_TRUE(Create(Options()).ok());
}

TEST_F(StoreFaultTest, ARunThatHasAStoreIsNotCreatedAgain) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  Status status = Create(Options());
  EXPECT_EQ(status.code(), Code::kAlreadyExists);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(Folder()), HasSubstr("generation 1")));
  ASSERT_TRUE(Open(Options()).ok());
  EXPECT_TRUE(HoldsSeeds(1));
}

TEST_F(StoreFaultTest, WhatAJobLeftThatDiedBeforeItsFirstCommitIsRemoved) {
  ASSERT_TRUE(Create(Options()).ok());
  ASSERT_TRUE(store_.Write(0, 1).ok());
  store_.Reset();
  EXPECT_EQ(Open(Options()).code(), Code::kNotFound);
  ASSERT_TRUE(Create(Options()).ok());
  EXPECT_FALSE(store_->HasVersion(StoreBlock{0}));
}

TEST_F(StoreFaultTest, OpeningARunThatIsNotThereNamesWhereItWasLookedFor) {
  Status status = Open(Options());
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr(Folder()));
}

TEST_F(StoreFaultTest, ASecondStoreOfTheSameRankIsRefusedNamingProcessAndDirectory) {
  ASSERT_TRUE(Create(Options()).ok());
  CommitSeeds(1);
  Status opened = BlockStore::Open(Options(), store_.blocks(), &engine_).status();
  Status created = BlockStore::Create(Options(), store_.blocks(), &engine_).status();
  for (const Status& status : {opened, created}) {
    EXPECT_EQ(status.code(), Code::kFailedPrecondition);
    EXPECT_THAT(status.message(),
                AllOf(HasSubstr("process " + std::to_string(getpid())), HasSubstr(Folder())));
  }
  EXPECT_TRUE(HoldsSeeds(1));
}

}  // namespace
}  // namespace strata::tiering
