// What only io_uring can meet: limits that refuse a part of it.
#include "aio/internal/uring_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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

}  // namespace
}  // namespace strata::aio
