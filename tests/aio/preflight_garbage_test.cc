// Machines that tell nothing, or nonsense.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <random>

#include "aio/file.h"
#include "aio/internal/preflight/findings.h"
#include "aio/internal/preflight/uring.h"
#include "tests/aio/preflight_fixture.h"

namespace strata::aio {
namespace {

TEST_F(PreflightTest, AMachineThatTellsNothingIsUnknownAndNoProblem) {
  for (const Finding& finding : Machine().findings) {
    bool is_asked_itself = finding.key == "io_uring";
    EXPECT_TRUE(finding.severity == kFine || is_asked_itself) << finding.what;
    EXPECT_FALSE(finding.value.empty());
  }
  EXPECT_EQ(OfMachine("huge_pages").value, "unknown");
  EXPECT_EQ(OfPath("file_system").value, "unknown");
  EXPECT_EQ(OfPath("drive").value, "none of this machine");
}

std::string Garbage(std::mt19937_64& random) {
  static const std::vector<std::string> kPieces = {"0",
                                                   "1",
                                                   "-1",
                                                   "18446744073709551616",
                                                   "99999999999999999999999",
                                                   "[",
                                                   "]",
                                                   "[none]",
                                                   "\n",
                                                   " ",
                                                   "\t",
                                                   "259:0",
                                                   ":",
                                                   "/",
                                                   "..",
                                                   "0::/",
                                                   "0::/../..",
                                                   "-",
                                                   ",",
                                                   "0-",
                                                   "-0",
                                                   "3-1",
                                                   "=",
                                                   "max",
                                                   "rbps=",
                                                   "unlimited",
                                                   "kB",
                                                   "ext4",
                                                   "/dev/",
                                                   "\\040",
                                                   "\\9",
                                                   "\xff\xfe",
                                                   "CapEff:\tzz",
                                                   std::string(1, '\0'),
                                                   std::string(5000, 'x'),
                                                   "Max locked memory ",
                                                   "MemAvailable: "};
  std::string text;
  for (uint64_t i = random() % 12; i > 0; --i) text += kPieces[random() % kPieces.size()];
  return text;
}

TEST_F(PreflightTest, GarbageInEveryFileIsSurvived) {
  MountNvme();
  machine_.MountCgroup2("/jobs");
  const std::string queue = "sys/class/block/nvme0n1/queue/";
  const std::vector<std::string> files = {queue + "scheduler",
                                          queue + "rotational",
                                          queue + "max_sectors_kb",
                                          queue + "max_hw_sectors_kb",
                                          queue + "nr_requests",
                                          queue + "write_cache",
                                          queue + "io_poll",
                                          "sys/class/block/nvme0n1/dev",
                                          "sys/class/block/nvme0n1/device/model",
                                          "sys/class/block/nvme0n1/stat",
                                          "sys/class/block/nvme0n1/dm/name",
                                          "sys/class/block/nvme0n1/loop/backing_file",
                                          "sys/devices/pci0000:00/nvme0n1/numa_node",
                                          "sys/devices/pci0000:00/nvme0n1/max_link_width",
                                          "sys/devices/system/node/online",
                                          "sys/devices/system/node/node1/cpulist",
                                          "sys/kernel/mm/transparent_hugepage/enabled",
                                          "sys/kernel/mm/transparent_hugepage/defrag",
                                          "sys/fs/cgroup/jobs/io.max",
                                          "sys/fs/cgroup/jobs/io.weight",
                                          "sys/fs/cgroup/jobs/memory.max",
                                          "proc/self/limits",
                                          "proc/self/status",
                                          "proc/self/uid_map",
                                          "proc/self/cgroup",
                                          "proc/meminfo",
                                          "proc/sys/fs/aio-nr",
                                          "proc/sys/fs/aio-max-nr",
                                          "proc/sys/kernel/io_uring_disabled",
                                          "proc/sys/kernel/osrelease",
                                          "proc/self/mountinfo"};
  std::mt19937_64 random(11);
  const PreflightRoots roots = machine_.roots();
  // Not a directory, which would be written to in every round.
  const std::string file_path = path_.File("data");
  ASSERT_TRUE(WriteFileAtomically(file_path, "content").ok());
  for (int round = 0; round < 150; ++round) {
    for (const std::string& file : files) {
      // The mounts lead to all the rest: seldom garbage, so that the rest is reached.
      bool leads = file.ends_with("mountinfo") || file.ends_with("cgroup");
      if (!leads || round > 100) machine_.Write(file, Garbage(random));
    }
    for (const Finding& finding : CheckPath(file_path, roots).findings)
      EXPECT_FALSE(finding.key.empty());
    for (const Finding& finding : MemoryFindings(roots)) EXPECT_FALSE(finding.value.empty());
    for (const Finding& finding :
         {LibaioFinding(roots), LockedMemoryFinding(roots), OpenFilesFinding(roots),
          FileSizeFinding(roots), UringFinding({.error_number = EPERM}, roots)})
      EXPECT_FALSE(finding.value.empty());
    static_cast<void>(ReadBlockCounters(machine_.At("sys/class/block/nvme0n1")));
  }
}

}  // namespace
}  // namespace strata::aio
