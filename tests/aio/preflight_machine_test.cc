// Other machines and what they let a process do: cgroups, limits, memory, io_uring.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "aio/internal/preflight/findings.h"
#include "aio/internal/preflight/uring.h"
#include "tests/aio/preflight_fixture.h"

namespace strata::aio {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CgroupTest : public PreflightTest {
 protected:
  CgroupTest() {
    MountNvme();
    machine_.MountCgroup2("/jobs/train");
  }
};

TEST_F(CgroupTest, AThrottledDriveIsAProblemWithTheCommandThatFreesIt) {
  machine_.Write("sys/fs/cgroup/jobs/train/io.max", "8:0 rbps=1 wbps=1 riops=max wiops=max");
  EXPECT_EQ(OfPath("io_throttle").severity, kFine);
  machine_.Write("sys/fs/cgroup/jobs/io.max",
                 "8:0 rbps=1 wbps=1\n259:0 rbps=max wbps=104857600 riops=max wiops=max");
  Finding finding = OfPath("io_throttle");
  EXPECT_EQ(finding.severity, kProblem);
  EXPECT_EQ(finding.value, "259:0 wbps=104857600 in /jobs");
  EXPECT_THAT(finding.command, AllOf(HasSubstr("259:0 rbps=max"), HasSubstr("/jobs/io.max")));
}

TEST_F(CgroupTest, ASmallWeightIsNoted) {
  machine_.Write("sys/fs/cgroup/jobs/train/io.weight", "default 10\n8:0 500");
  EXPECT_EQ(OfPath("io_throttle").severity, kNote);
  EXPECT_EQ(OfPath("io_throttle").value, "weight 10 in /jobs/train");
}

TEST_F(CgroupTest, TheTightestMemoryLimitAboveTheProcessCounts) {
  machine_.Write("sys/fs/cgroup/jobs/train/memory.max", "max");
  EXPECT_EQ(OfMachine("cgroup_memory").value, "not limited");
  machine_.Write("sys/fs/cgroup/jobs/memory.max", "8589934592");
  machine_.Write("sys/fs/cgroup/jobs/memory.current", "1073741824");
  EXPECT_EQ(OfMachine("cgroup_memory").value, "7 GiB of 8 GiB left");
  EXPECT_EQ(OfMachine("cgroup_memory").severity, kFine);
  machine_.Write("sys/fs/cgroup/jobs/memory.current", "8589934593");
  EXPECT_EQ(OfMachine("cgroup_memory").severity, kNote);
}

constexpr const char* kLimits =
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max file size             {}            unlimited            bytes     \n"
    "Max open files            {}                524288               files     \n"
    "Max locked memory         {}              8388608              bytes     ";

TEST_F(PreflightTest, LimitsOfTheProcessAreReadAndExplained) {
  machine_.Write("proc/self/limits", fmt::format(kLimits, "1048576", "32", "8388608"));
  machine_.Write("proc/self/status", "CapEff:\t0000000000000000");
  Preflight preflight = Machine();
  EXPECT_EQ(FindingOf(preflight, "locked_memory").severity, kNote);
  EXPECT_EQ(FindingOf(preflight, "locked_memory").value, "8 MiB");
  EXPECT_THAT(FindingOf(preflight, "locked_memory").explanation,
              AllOf(HasSubstr("limits.conf"), HasSubstr("LimitMEMLOCK"), HasSubstr("docker")));
  EXPECT_EQ(FindingOf(preflight, "file_size_limit").severity, kProblem);
  EXPECT_EQ(FindingOf(preflight, "open_files").severity, kProblem);
  machine_.Write("proc/self/limits", fmt::format(kLimits, "unlimited", "65536", "unlimited"));
  preflight = Machine();
  for (const char* key : {"locked_memory", "file_size_limit", "open_files"})
    EXPECT_EQ(FindingOf(preflight, key).severity, kFine) << key;
}

TEST_F(PreflightTest, TheCapabilityLiftsTheLimitOnLockedMemoryUnlessItIsOfANamespace) {
  machine_.Write("proc/self/limits", fmt::format(kLimits, "unlimited", "1024", "65536"));
  machine_.Write("proc/self/status", "CapEff:\t0000000000004000");
  machine_.Write("proc/self/uid_map", "         0          0 4294967295");
  EXPECT_EQ(OfMachine("locked_memory").severity, kFine);
  machine_.Write("proc/self/uid_map", "         0       1000          1");
  EXPECT_EQ(OfMachine("locked_memory").severity, kNote);
}

TEST_F(PreflightTest, WithoutHugePagesThereIsAProblem) {
  std::string at = "sys/kernel/mm/transparent_hugepage/";
  machine_.Write(at + "enabled", "always madvise [never]");
  machine_.Write(at + "defrag", "always [defer] defer+madvise madvise never");
  EXPECT_EQ(OfMachine("huge_pages").severity, kProblem);
  EXPECT_EQ(OfMachine("huge_page_defrag").severity, kNote);
  machine_.Write(at + "enabled", "always [madvise] never");
  machine_.Write(at + "defrag", "always defer [defer+madvise] madvise never");
  EXPECT_EQ(OfMachine("huge_pages").value, "madvise");
  EXPECT_EQ(OfMachine("huge_page_defrag").severity, kFine);
}

TEST_F(PreflightTest, MemoryAndRoomForLibaioAreCounted) {
  machine_.Write("proc/meminfo", "MemTotal:       65536000 kB\nMemAvailable:     524288 kB");
  EXPECT_EQ(OfMachine("memory").value, "512 MiB of 62.5 GiB");
  EXPECT_EQ(OfMachine("memory").severity, kNote);
  machine_.Write("proc/sys/fs/aio-nr", "65000");
  machine_.Write("proc/sys/fs/aio-max-nr", "65536");
  EXPECT_EQ(OfMachine("libaio").value, "room for 536 of 65536 requests");
  EXPECT_EQ(OfMachine("libaio").command, "sudo sysctl fs.aio-max-nr=1048576");
}

class RefusedUringTest : public PreflightTest {
 protected:
  Finding Refused(int error_number) {
    Finding finding = UringFinding({.error_number = error_number}, machine_.roots());
    EXPECT_EQ(finding.severity, kProblem);
    return finding;
  }
};

TEST_F(RefusedUringTest, BySysctl) {
  machine_.Write("proc/sys/kernel/io_uring_disabled", "2");
  EXPECT_EQ(Refused(EPERM).command, "sudo sysctl kernel.io_uring_disabled=0");
  machine_.Write("proc/sys/kernel/io_uring_disabled", "1");
  EXPECT_EQ(Refused(EPERM).command, "sudo sysctl kernel.io_uring_disabled=0");
}

TEST_F(RefusedUringTest, ByAFilter) {
  machine_.Write("proc/sys/kernel/io_uring_disabled", "0");
  machine_.Write("proc/self/status", "Seccomp:\t2");
  EXPECT_THAT(Refused(EPERM).command, HasSubstr("seccomp"));
  EXPECT_THAT(Refused(ENOSYS).command, HasSubstr("seccomp"));
}

TEST_F(RefusedUringTest, ByAnOldKernelOrASecurityModuleOrALimit) {
  machine_.Write("proc/sys/kernel/osrelease", "4.18.0-513.el8");
  EXPECT_THAT(Refused(ENOSYS).value, HasSubstr("kernel 4.18.0-513.el8"));
  EXPECT_THAT(Refused(EACCES).explanation, HasSubstr("SELinux"));
  EXPECT_EQ(Refused(ENOMEM).command, "ulimit -l unlimited");
  EXPECT_EQ(Refused(EMFILE).command, "ulimit -n 65536");
}

TEST_F(PreflightTest, AnOlderKernelsRingsAreFineWithANote) {
  machine_.Write("proc/sys/kernel/osrelease", "5.15.0");
  Finding finding = UringFinding(
      {.features = {"SQPOLL"}, .missing = {"DEFER_TASKRUN"}, .register_error_number = 0},
      machine_.roots());
  EXPECT_EQ(finding.severity, kNote);
  EXPECT_EQ(finding.value, "kernel 5.15.0: SQPOLL, registered memory; lacks DEFER_TASKRUN");
}

}  // namespace
}  // namespace strata::aio
