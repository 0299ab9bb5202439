// Paths of other machines: mounts, drives and what stands between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/aio/preflight_fixture.h"

namespace strata::aio {
namespace {

using ::testing::UnorderedElementsAre;

TEST_F(PreflightTest, AnNvmeAsItShouldBeIsFine) {
  MountNvme();
  machine_.Write("sys/devices/system/node/online", "0");
  Preflight preflight = Path();
  for (const Finding& finding : preflight.findings) {
    bool is_of_this_machine = finding.key.starts_with("free_");
    EXPECT_TRUE(finding.severity == kFine || is_of_this_machine) << finding.what << finding.value;
  }
  EXPECT_EQ(FindingOf(preflight, "file_system").value, "ext4 on /");
  EXPECT_EQ(FindingOf(preflight, "drive").value, "nvme0n1");
  EXPECT_EQ(FindingOf(preflight, "rotational").value, "solid state (Fast SSD 4TB)");
  EXPECT_EQ(FindingOf(preflight, "queue").value, "1023 requests of up to 1.25 MiB");
}

TEST_F(PreflightTest, AnNvmeThatIsScheduledGetsTheCommandThatEndsIt) {
  MountNvme();
  SetScheduler("none [mq-deadline] kyber bfq");
  Finding finding = OfPath("scheduler");
  EXPECT_EQ(finding.severity, kNote);
  EXPECT_EQ(finding.what, "I/O scheduler of nvme0n1");
  EXPECT_EQ(finding.value, "mq-deadline");
  EXPECT_EQ(finding.command, "echo none | sudo tee /sys/block/nvme0n1/queue/scheduler");
  SetScheduler("none mq-deadline [bfq]");
  EXPECT_EQ(OfPath("scheduler").severity, kProblem);
}

TEST_F(PreflightTest, ADriveOnAnotherNodeThanTheProcessSaysHowToBindIt) {
  MountNvme();
  machine_.Write("sys/devices/system/node/online", "0-1");
  machine_.Write("sys/devices/system/node/node1/cpulist", "16-31,48-63");
  machine_.Write("proc/self/status", "Name:\tstrata\nCpus_allowed_list:\t0-63");
  Finding finding = OfPath("numa_node");
  EXPECT_EQ(finding.severity, kNote);
  EXPECT_EQ(finding.command, "numactl --cpunodebind=1 --membind=1 strata ...");
  machine_.Write("proc/self/status", "Cpus_allowed_list:\t16-20,50");
  EXPECT_EQ(OfPath("numa_node").value, "1, as this process");
}

TEST_F(PreflightTest, ARotatingDiskBehindAMappingIsFoundAndNamed) {
  machine_.AddDevice("sys/devices/pci/ata1", "sda", "8:0",
                     {{"queue/rotational", "1"}, {"queue/scheduler", "none [mq-deadline]"}});
  machine_.AddDevice("sys/devices/virtual/block", "dm-0", "253:0", {{"dm/name", "vg-data"}});
  machine_.Link("sys/devices/virtual/block/dm-0/slaves/sda", "sys/class/block/sda");
  machine_.MountRoot("253:0", "ext4", "/dev/mapper/vg-data", "rw");
  Preflight preflight = Path();
  EXPECT_EQ(FindingOf(preflight, "drive").value, "dm-0 (vg-data) on sda");
  EXPECT_EQ(FindingOf(preflight, "rotational").what, "kind of sda");
  EXPECT_EQ(FindingOf(preflight, "rotational").severity, kNote);
  EXPECT_EQ(FindingOf(preflight, "scheduler").severity, kFine);
}

TEST_F(PreflightTest, EveryDriveOfARaidIsLookedAt) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.AddNvme("nvme1n1", "259:1", 1);
  machine_.Write("sys/class/block/nvme1n1/queue/scheduler", "none [bfq]");
  machine_.AddDevice("sys/devices/virtual/block", "md0", "9:0", {{"md/level", "raid5"}});
  for (const char* name : {"nvme0n1", "nvme1n1"}) {
    machine_.Link(std::string("sys/devices/virtual/block/md0/slaves/") + name,
                  std::string("sys/class/block/") + name);
  }
  machine_.MountRoot("9:0", "xfs", "/dev/md0", "rw");
  Preflight preflight = Path();
  int schedulers = 0;
  for (const Finding& finding : preflight.findings) {
    if (finding.key != "scheduler") continue;
    ++schedulers;
    EXPECT_EQ(finding.severity, finding.what == "I/O scheduler of nvme1n1" ? kProblem : kFine);
  }
  EXPECT_EQ(schedulers, 2);
  EXPECT_EQ(FindingOf(preflight, "raid_level").severity, kNote);
}

TEST_F(PreflightTest, ADriveInANarrowSlotIsNoted) {
  MountNvme();
  std::string bus = "sys/devices/pci0000:00/nvme0n1/";
  machine_.Write(bus + "max_link_width", "4");
  machine_.Write(bus + "current_link_width", "2");
  machine_.Write(bus + "max_link_speed", "16.0 GT/s PCIe");
  machine_.Write(bus + "current_link_speed", "16.0 GT/s PCIe");
  EXPECT_EQ(OfPath("pcie_link").severity, kNote);
  EXPECT_EQ(OfPath("pcie_link").value, "2 lanes at 16.0 GT/s PCIe");
  machine_.Write(bus + "current_link_width", "4");
  EXPECT_EQ(OfPath("pcie_link").severity, kFine);
}

TEST_F(PreflightTest, RequestsThatAreCutSmallAreNoted) {
  MountNvme();
  machine_.Write("sys/class/block/nvme0n1/queue/max_sectors_kb", "64");
  EXPECT_EQ(OfPath("queue").severity, kNote);
  EXPECT_EQ(OfPath("queue").command,
            "echo 2048 | sudo tee /sys/block/nvme0n1/queue/max_sectors_kb");
}

TEST_F(PreflightTest, MountOptionsThatMatterAreThere) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.MountRoot("259:0", "ext4", "/dev/nvme0n1", "rw,sync,discard,nobarrier");
  std::vector<std::string> values;
  for (const Finding& finding : Path().findings) {
    if (finding.key == "mount_option") values.push_back(finding.value);
  }
  EXPECT_THAT(values, UnorderedElementsAre("sync", "nobarrier", "discard"));
  EXPECT_TRUE(Path().HasProblem());
  EXPECT_NE(OfPath("trial_write").value, "absent");
}

TEST_F(PreflightTest, FileSystemsThatAreNotForThisSaySo) {
  for (const char* type : {"nfs4", "fuse.sshfs", "overlay", "btrfs", "zfs", "exfat"}) {
    FakeMachine machine;
    machine.MountRoot("0:77", type, "none", "rw");
    Finding finding = FindingOf(CheckPath(path_.path(), machine.roots()), "file_system");
    EXPECT_EQ(finding.severity, kNote) << type;
    EXPECT_FALSE(finding.explanation.empty()) << type;
  }
}

TEST_F(PreflightTest, TheLastMountOfThoseThatFitBestIsThePaths) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  std::string at = std::filesystem::canonical(path_.path());
  machine_.Write("proc/self/mountinfo",
                 "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
                 "2 1 8:2 / " +
                     at +
                     " rw - ext3 /dev/sda2 rw\n"
                     "3 1 259:0 / " +
                     at +
                     " rw shared:7 master:1 - xfs /dev/nvme0n1 rw\n"
                     "4 1 8:3 / " +
                     at +
                     "x rw - ext2 /dev/sda3 rw\n"
                     "5 1 8:3 / " +
                     at +
                     "/below rw - ext2 /dev/sda3 rw\n"
                     "not a line of that file\n");
  EXPECT_EQ(OfPath("file_system").value, "xfs on " + at);
  EXPECT_EQ(OfPath("drive").value, "nvme0n1");
}

TEST_F(PreflightTest, SpacesInTheNameOfAMountAreNoObstacle) {
  std::string at = path_.File("a b");
  std::filesystem::create_directory(at);
  std::string escaped = path_.path() + "/a\\040b";
  machine_.Write("proc/self/mountinfo", "1 0 8:1 / " + escaped + " rw - btrfs /dev/sda1 rw");
  Finding finding = FindingOf(CheckPath(at, machine_.roots()), "file_system");
  EXPECT_EQ(finding.value, "btrfs on " + at);
  EXPECT_EQ(finding.command, "chattr +C '" + at + "'");
}

}  // namespace
}  // namespace strata::aio
