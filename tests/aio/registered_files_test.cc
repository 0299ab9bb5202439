// A ring's table of files against files that come and go.
#include "aio/internal/registered_files.h"

#include <gtest/gtest.h>
#include <sys/file.h>

#include <memory>
#include <optional>
#include <vector>

#include "aio/io_buffer.h"
#include "aio/io_engine.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

constexpr FileOptions kCreate = {.access = FileAccess::kReadWrite,
                                 .create = FileCreate::kCreateOrOpen};

class RegisteredFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (io_uring_queue_init(4, &ring_, 0) != 0) GTEST_SKIP() << "no io_uring here";
    is_set_up_ = true;
    files_ = RegisteredFiles::Create(ring_);
    if (!files_) GTEST_SKIP() << "no sparse tables here";
  }
  void TearDown() override {
    if (is_set_up_) io_uring_queue_exit(&ring_);
  }
  File Open(const std::string& name) { return OrDie(File::Open(directory_.File(name), kCreate)); }

  ScratchDirectory directory_;
  io_uring ring_ = {};
  bool is_set_up_ = false;
  std::unique_ptr<RegisteredFiles> files_;
};

TEST_F(RegisteredFilesTest, AFileIsRegisteredOnce) {
  File first = Open("first"), second = Open("second");
  EXPECT_EQ(files_->IndexOf(first, first.fd()), 0);
  EXPECT_EQ(files_->IndexOf(second, second.fd()), 1);
  EXPECT_EQ(files_->IndexOf(first, first.fd()), 0);
  files_->LetGo();
  EXPECT_EQ(files_->IndexOf(second, second.fd()), 0);
}

TEST_F(RegisteredFilesTest, ADescriptorThatIsUsedAgainIsAnotherFile) {
  std::optional<File> first = Open("first");
  int fd = first->fd();
  EXPECT_EQ(files_->IndexOf(*first, fd), 0);
  first.reset();
  File second = Open("first");
  ASSERT_EQ(second.fd(), fd);
  EXPECT_EQ(files_->IndexOf(second, fd), 1);
}

TEST_F(RegisteredFilesTest, AFileThatMovesStaysTheSame) {
  File before = Open("file");
  EXPECT_EQ(files_->IndexOf(before, before.fd()), 0);
  File after = std::move(before);
  EXPECT_EQ(files_->IndexOf(after, after.fd()), 0);
}

TEST_F(RegisteredFilesTest, AFullTableLeavesTheOthersToTheirDescriptors) {
  std::vector<File> files;
  for (size_t i = 0; i < RegisteredFiles::kCapacity; ++i) {
    files.push_back(Open(std::to_string(i)));
    EXPECT_EQ(files_->IndexOf(files.back(), files.back().fd()), static_cast<int>(i));
  }
  File one_more = Open("more");
  EXPECT_EQ(files_->IndexOf(one_more, one_more.fd()), std::nullopt);
}

// Its lock goes with the last that holds it open.
TEST_F(RegisteredFilesTest, AnIdleEngineKeepsNoClosedFileOpen) {
  auto engine = OrDie(IoEngine::Create({.backend = IoBackend::kIoUring, .registered_files = true}));
  HugeMemory memory = OrDie(HugeMemory::Map(64_KiB));
  std::optional<File> file = Open("locked");
  ASSERT_EQ(flock(file->fd(), LOCK_EX), 0);
  ASSERT_EQ(engine->StartWrite(*file, 0, memory.bytes()).Wait().ToString(), "ok");
  file.reset();
  File again = Open("locked");
  EXPECT_EQ(flock(again.fd(), LOCK_EX), 0);  // blocks until then
}

}  // namespace
}  // namespace strata::aio
