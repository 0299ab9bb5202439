// What a user gets wrong, or a drive does: one clear error, nothing lost, nothing left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

// 2 x 64 sequences: activations that do not fit into a MiB.
constexpr const char* kLargeBatch = "train.train_batch_size=128";
constexpr auto kResume = SessionOptions::Start::kResume;

class BadInput : public testing::Test {
 protected:
  RunConfig Config(std::vector<std::string> more = {}) {
    std::vector<std::string> sets = OffloadTo("nvme", scratch_.path());
    sets.insert(sets.end(), more.begin(), more.end());
    return OrDie(TinyConfig(scratch_.path(), sets));
  }
  std::vector<std::string> NvmeAt(const std::string& path) {
    return {"zero_optimization.offload_param.nvme_path=" + path,
            "zero_optimization.offload_optimizer.nvme_path=" + path};
  }
  // Nothing of a run that could not start may stand in the way of the next.
  void ExpectCleanStartAfterwards() {
    fs::create_directories(scratch_.path() + "/nvme");
    EXPECT_TRUE(Train(Config()).ok());
  }
  ScratchDirectory scratch_;
};

// The text in quotes behind `key`.
std::string QuotedAfter(const std::string& key, const std::string& text) {
  size_t begin = text.find(key + '"');
  if (begin == std::string::npos) return {};
  begin += key.size() + 1;
  return text.substr(begin, text.find('"', begin) - begin);
}

TEST_F(BadInput, ABudgetThatIsTooSmallNamesTheSmallestThatFitsAndThatOneFits) {
  Result<PlannedRun> refused =
      PlanRun(Config({"memory.device=\"1MiB\"", "memory.host=\"1MiB\"", kLargeBatch}), {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  std::string message = refused.status().message();
  std::string device = QuotedAfter("device = ", message);
  std::string host = QuotedAfter("host = ", message);
  ASSERT_THAT(device, EndsWith("MiB")) << message;
  ASSERT_THAT(host, EndsWith("MiB")) << message;
  Result<PlannedRun> fits =
      PlanRun(Config({"memory.device=" + device, "memory.host=" + host, kLargeBatch}), {});
  EXPECT_TRUE(fits.ok()) << fits.status().ToString();
}

TEST_F(BadInput, ATooSmallDeviceIsRefusedBeforeAnythingIsWritten) {
  EXPECT_FALSE(Train(Config({"memory.device=\"1MiB\"", kLargeBatch})).ok());
  EXPECT_FALSE(fs::exists(scratch_.path() + "/run"));
  EXPECT_TRUE(fs::is_empty(scratch_.path() + "/nvme"));
}

TEST_F(BadInput, AnNvmeDirectoryThatIsMissingIsNamed) {
  std::string missing = scratch_.path() + "/not-mounted";
  Result<RunOutcome> outcome = Train(Config(NvmeAt(missing)));
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(outcome.status().message(), HasSubstr(missing));
  ExpectCleanStartAfterwards();
}

TEST_F(BadInput, AnNvmePathThatIsAFileIsNamed) {
  std::string file = scratch_.path() + "/file";
  std::ofstream(file) << "x";
  Result<RunOutcome> outcome = Train(Config(NvmeAt(file)));
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(outcome.status().message(), HasSubstr(file));
  ExpectCleanStartAfterwards();
}

// A file system of its own for one test. Skips where mounting is not allowed.
class Mounted {
 public:
  Mounted(const std::string& path, const char* options) : path_(path) {
    fs::create_directories(path);
    ok_ = mount("tmpfs", path.c_str(), "tmpfs", 0, options) == 0;
  }
  ~Mounted() {
    if (ok_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool ok() const { return ok_; }
  bool MakeReadOnly() {
    return mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }

 private:
  std::string path_;
  bool ok_ = false;
};

TEST_F(BadInput, AFullDriveSaysHowMuchIsMissingAndIsLeftClean) {
  std::string path = scratch_.path() + "/small";
  Mounted drive(path, "size=1m");
  if (!drive.ok()) GTEST_SKIP() << "mounting a small tmpfs is not allowed here";
  Result<RunOutcome> outcome = Train(Config(NvmeAt(path)));
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.status().code(), Code::kResourceExhausted) << outcome.status().ToString();
  EXPECT_THAT(outcome.status().message(), HasSubstr(path));
  EXPECT_TRUE(fs::is_empty(path));
  ExpectCleanStartAfterwards();
}

TEST_F(BadInput, AReadOnlyDriveIsNamed) {
  std::string path = scratch_.path() + "/readonly";
  Mounted drive(path, "size=64m");
  if (!drive.ok() || !drive.MakeReadOnly()) GTEST_SKIP() << "mounting is not allowed here";
  Result<RunOutcome> outcome = Train(Config(NvmeAt(path)));
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.status().code(), Code::kPermissionDenied) << outcome.status().ToString();
  EXPECT_THAT(outcome.status().message(), HasSubstr(path));
  ExpectCleanStartAfterwards();
}

TEST_F(BadInput, TmpfsTrainsWithTheSameBits) {
  std::string path = scratch_.path() + "/memory";
  Mounted drive(path, "size=64m");
  if (!drive.ok()) GTEST_SKIP() << "mounting a small tmpfs is not allowed here";
  RunOutcome on_tmpfs = OrDie(Train(Config(NvmeAt(path))));
  ScratchDirectory other;
  RunOutcome expected =
      OrDie(Train(OrDie(TinyConfig(other.path(), OffloadTo("nvme", other.path())))));
  EXPECT_EQ(on_tmpfs.summary.state_hash, expected.summary.state_hash);
}

class NullObserver final : public SessionObserver {
  void OnProgress(const std::string&, uint64_t, uint64_t) override {}
  void OnPlanned(const PlannedRun&) override {}
  void OnStarted(uint64_t, const std::string&) override {}
  void OnStep(const StepReport&) override {}
};

TEST_F(BadInput, ARunThatIsInUseIsNotOpenedTwice) {
  NullObserver observer;
  std::unique_ptr<TrainingSession> first = OrDie(TrainingSession::Start(Config(), {}, observer));
  Result<RunOutcome> second = Train(Config(), kResume);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(second.status().message(), HasSubstr("nvme"));
  // Nor removed from under the run that has it.
  EXPECT_FALSE(Train(Config(), SessionOptions::Start::kOverwrite).ok());
  EXPECT_TRUE(first->Run(false).ok());
}

std::string BlocksFile(const std::string& nvme) {
  for (const auto& entry : fs::recursive_directory_iterator(nvme)) {
    if (entry.path().extension() == ".blocks") return entry.path().string();
  }
  return {};
}

TEST_F(BadInput, AFlippedByteOnTheDriveIsFoundAndNamesTheBlock) {
  OrDie(TrainAndStopAfter(Config(), 1));
  std::string path = BlocksFile(scratch_.path() + "/nvme");
  ASSERT_FALSE(path.empty());
  {
    // Every 4 KiB of the file: whichever extents are live, some are hit.
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    uint64_t size = fs::file_size(path);
    for (uint64_t at = 100; at < size; at += 4096) {
      file.seekg(static_cast<std::streamoff>(at));
      char byte = static_cast<char>(file.get() ^ 1);
      file.seekp(static_cast<std::streamoff>(at));
      file.put(byte);
    }
  }
  Result<RunOutcome> outcome = Train(Config(), kResume);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.status().code(), Code::kDataLoss) << outcome.status().ToString();
  EXPECT_THAT(outcome.status().message(), AllOf(HasSubstr("/w"), HasSubstr(path)));
}

TEST_F(BadInput, AVocabularyThatCannotHoldTheTokensIsRefused) {
  Result<RunOutcome> outcome = Train(Config({"model.vocab_size=100"}));
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(outcome.status().message(), HasSubstr("vocab_size"));
}

// A program without the plugin, in the environment of a launcher.
TEST_F(BadInput, RanksThatCannotTalkAreToldWhatIsMissing) {
  setenv("WORLD_SIZE", "2", 1);
  setenv("RANK", "0", 1);
  Result<RunOutcome> outcome = Train(Config());
  unsetenv("WORLD_SIZE");
  unsetenv("RANK");
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.status().code(), Code::kUnavailable);
  EXPECT_THAT(outcome.status().message(), AllOf(HasSubstr("WORLD_SIZE=2"), HasSubstr("plugin")));
}

}  // namespace
}  // namespace strata::engine
