#include "aio/drive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "aio/base/units.h"
#include "tests/aio/fake_machine.h"
#include "tests/aio/mounts.h"
#include "tests/aio/scratch.h"

namespace strata::aio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DriveTest : public testing::Test {
 protected:
  Result<BlockChain> Find() { return FindBlockChain(path_.path(), machine_.roots()); }

  std::vector<std::string> DriveNames(const BlockChain& chain) {
    std::vector<std::string> names;
    for (const Drive& drive : chain.drives) names.push_back(drive.name);
    return names;
  }

  ScratchDirectory path_;
  FakeMachine machine_;
};

TEST_F(DriveTest, ADriveTellsWhatItIs) {
  machine_.AddNvme("nvme0n1", "259:0", 1);
  machine_.MountRoot("259:0", "ext4", "/dev/nvme0n1", "rw");
  BlockChain chain = OrDie(Find());
  EXPECT_EQ(chain.Describe(), "nvme0n1");
  ASSERT_EQ(chain.drives.size(), 1u);
  const Drive& drive = chain.drives[0];
  EXPECT_EQ(drive.number, "259:0");
  EXPECT_EQ(drive.model, "Fast SSD 4TB");
  EXPECT_EQ(drive.rotational, false);
  EXPECT_EQ(drive.scheduler, "none");
  EXPECT_EQ(drive.numa_node, 1u);
  EXPECT_EQ(drive.logical_block_bytes, 512u);
  EXPECT_EQ(drive.physical_block_bytes, 4096u);
  EXPECT_EQ(drive.io_poll, false);
  EXPECT_EQ(drive.max_segments, 127u);
  EXPECT_EQ(drive.max_transfer_bytes, 1280_KiB);
  EXPECT_EQ(drive.max_hardware_transfer_bytes, 2_MiB);
  EXPECT_EQ(drive.num_requests, 1023u);
  EXPECT_EQ(drive.write_cache, "write back");
}

TEST_F(DriveTest, WhatADriveDoesNotTellIsEmpty) {
  machine_.AddDevice("sys/devices/virtual", "vdz", "254:9", {{"queue/rotational", "maybe"}});
  machine_.MountRoot("254:9", "ext4", "/dev/vdz", "rw");
  Drive drive = OrDie(Find()).drives.at(0);
  EXPECT_EQ(drive.name, "vdz");
  EXPECT_EQ(drive.rotational, std::nullopt);
  EXPECT_EQ(drive.numa_node, std::nullopt);
  EXPECT_EQ(drive.logical_block_bytes, std::nullopt);
  EXPECT_EQ(drive.scheduler, "");
}

TEST_F(DriveTest, ADriveOnNoNodeIsOnNone) {
  machine_.AddNvme("nvme0n1", "259:0", -1);
  machine_.MountRoot("259:0", "ext4", "/dev/nvme0n1", "rw");
  EXPECT_EQ(OrDie(Find()).drives.at(0).numa_node, std::nullopt);
}

TEST_F(DriveTest, APartitionIsPartOfItsDrive) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.AddDevice("sys/devices/pci0000:00/nvme0n1/nvme/nvme0n1", "nvme0n1p2", "259:2",
                     {{"partition", "2"}});
  machine_.MountRoot("259:2", "xfs", "/dev/nvme0n1p2", "rw");
  BlockChain chain = OrDie(Find());
  EXPECT_EQ(chain.Describe(), "nvme0n1p2 on nvme0n1");
  EXPECT_EQ(chain.devices.at(0).kind, BlockKind::kPartition);
}

TEST_F(DriveTest, AMappingStandsOnWhatItMaps) {
  machine_.AddDevice("sys/devices/pci0000:00/ata1", "sda", "8:0", {{"queue/rotational", "1"}});
  machine_.AddDevice("sys/devices/pci0000:00/ata1/sda", "sda3", "8:3", {{"partition", "3"}});
  machine_.AddDevice("sys/devices/virtual/block", "dm-0", "253:0",
                     {{"dm/name", "vg-data"}, {"dm/uuid", "CRYPT-LUKS2-x"}});
  machine_.Link("sys/devices/virtual/block/dm-0/slaves/sda3",
                "sys/devices/pci0000:00/ata1/sda/sda3");
  machine_.MountRoot("253:0", "ext4", "/dev/mapper/vg-data", "rw");
  BlockChain chain = OrDie(Find());
  EXPECT_EQ(chain.Describe(), "dm-0 (vg-data) (encrypted) on sda3 on sda");
  ASSERT_EQ(chain.drives.size(), 1u);
  EXPECT_EQ(chain.drives[0].rotational, true);
}

TEST_F(DriveTest, ARaidHasSeveralDrives) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.AddNvme("nvme1n1", "259:1", 1);
  machine_.AddDevice("sys/devices/virtual/block", "md0", "9:0", {{"md/level", "raid0"}});
  machine_.Link("sys/devices/virtual/block/md0/slaves/nvme1n1", "sys/class/block/nvme1n1");
  machine_.Link("sys/devices/virtual/block/md0/slaves/nvme0n1", "sys/class/block/nvme0n1");
  machine_.MountRoot("9:0", "xfs", "/dev/md0", "rw");
  BlockChain chain = OrDie(Find());
  EXPECT_EQ(chain.Describe(), "md0 (raid0) on nvme0n1, nvme1n1");
  EXPECT_THAT(DriveNames(chain), ElementsAre("nvme0n1", "nvme1n1"));
}

// btrfs has a number of its own that no device has.
TEST_F(DriveTest, WithoutANumberTheNameOfWhatIsMountedLeadsToTheDrive) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.Write("dev/nvme0n1", "");
  machine_.Link("dev/mapper/data", "dev/nvme0n1");
  machine_.MountRoot("0:31", "btrfs", "/dev/mapper/data", "rw");
  EXPECT_EQ(OrDie(Find()).Describe(), "nvme0n1");
}

TEST_F(DriveTest, WhereThereIsNoDriveThatIsSaid) {
  machine_.MountRoot("0:40", "nfs4", "server:/export", "rw");
  Status status = Find().status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr(path_.path()));
}

TEST_F(DriveTest, DevicesThatStandOnEachOtherEndSomewhere) {
  for (const char* name : {"dm-0", "dm-1"})
    machine_.AddDevice("sys/devices/virtual/block", name,
                       name == std::string("dm-0") ? "253:0" : "253:1", {{"dm/name", name}});
  machine_.Link("sys/devices/virtual/block/dm-0/slaves/dm-1", "sys/devices/virtual/block/dm-1");
  machine_.Link("sys/devices/virtual/block/dm-1/slaves/dm-0", "sys/devices/virtual/block/dm-0");
  machine_.MountRoot("253:0", "ext4", "/dev/dm-0", "rw");
  EXPECT_TRUE(OrDie(Find()).drives.empty());
}

TEST_F(DriveTest, CountersAreInBytesOfTheDriveItself) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.MountRoot("259:0", "ext4", "/dev/nvme0n1", "rw");
  std::string sysfs_path = OrDie(Find()).drives.at(0).sysfs_path;
  EXPECT_EQ(ReadBlockCounters(sysfs_path).status().code(), Code::kNotFound);
  machine_.Write("sys/class/block/nvme0n1/stat",
                 "   100   2   2048   5   200   3   4096   6   7   88   9 0 0 0 0 1 1");
  BlockCounters counters = OrDie(ReadBlockCounters(sysfs_path));
  EXPECT_EQ(counters.num_reads, 100u);
  EXPECT_EQ(counters.read_bytes, 1_MiB);
  EXPECT_EQ(counters.num_writes, 200u);
  EXPECT_EQ(counters.written_bytes, 2_MiB);
  EXPECT_EQ(counters.num_in_flight, 7u);
  EXPECT_EQ(counters.busy_ms, 88u);
}

TEST_F(DriveTest, CountersThatAreNoneAreAnErrorThatNamesThem) {
  machine_.AddNvme("nvme0n1", "259:0", 0);
  machine_.Write("sys/class/block/nvme0n1/stat", "1 2 3");
  std::string path = machine_.At("sys/class/block/nvme0n1");
  EXPECT_EQ(ReadBlockCounters(path).status().message(),
            "read " + path + "/stat: 3 numbers instead of 11");
  machine_.Write("sys/class/block/nvme0n1/stat", "1 2 3 4 5 6 -7 8 9 10 11");
  EXPECT_THAT(ReadBlockCounters(path).status().message(), HasSubstr("'-7' is not a number"));
}

// On this machine: what is written to a loop device is what its counters say.
TEST_F(DriveTest, ARealLoopStandsOnTheDriveOfItsFileAndCounts) {
  STRATA_LOOP_OR_SKIP(loop, TemporaryLoop::Attach(path_.File("drive"), 4_MiB, 512));
  Result<BlockChain> chain = FindBlockChain(loop->device());
  ASSERT_TRUE(chain.ok()) << chain.status().message();
  const BlockDevice& device = chain->devices.at(0);
  EXPECT_EQ(device.kind, BlockKind::kLoop);
  EXPECT_EQ(device.detail, path_.File("drive"));
  BlockCounters before = OrDie(ReadBlockCounters(device.sysfs_path));
  ASSERT_EQ(std::system(fmt::format("dd if=/dev/zero of={} bs=1M count=2 oflag=direct 2>/dev/null",
                                    loop->device())
                            .c_str()),
            0);
  BlockCounters after = OrDie(ReadBlockCounters(device.sysfs_path));
  EXPECT_EQ(after.written_bytes - before.written_bytes, 2_MiB);
}

}  // namespace
}  // namespace strata::aio
