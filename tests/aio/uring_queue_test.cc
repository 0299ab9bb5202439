// What only io_uring can meet: kernels and limits that refuse it.
#include "aio/internal/uring_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <thread>

#include "aio/io_buffer.h"
#include "tests/aio/process.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// From here on io_uring_setup fails in this thread, as in a container.
bool RefuseIoUringInThisThread(int error_number) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error_number)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter = {.len = std::size(program), .filter = program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST(UringQueueTest, AKernelThatRefusesIsUnavailableAndTheMessageSaysWhatToSet) {
  for (int error_number : {EPERM, ENOSYS}) {
    int before = NumOpenDescriptors();
    bool refused = false;
    Status status;
    std::jthread([&] {
      refused = RefuseIoUringInThisThread(error_number);
      status = IoEngine::Create({.backend = IoBackend::kIoUring}).status();
    }).join();
    if (!refused) GTEST_SKIP() << "seccomp filters are refused here";
    EXPECT_EQ(status.code(), Code::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr("io_uring_setup: "));
    EXPECT_THAT(status.message(), HasSubstr("set [aio] backend = \"posix\""));
    EXPECT_EQ(NumOpenDescriptors(), before);
  }
}

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
    engine = IoEngine::Create({.thread_count = 2, .registered_memory = memory.bytes()});
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
