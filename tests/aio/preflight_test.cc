// This machine as a preflight sees it.
#include "aio/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/internal/preflight/findings.h"
#include "tests/aio/mounts.h"
#include "tests/aio/preflight_fixture.h"
#include "tests/aio/process.h"

namespace strata::aio {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

bool IsEmpty(const std::string& directory) { return std::filesystem::is_empty(directory); }

TEST_F(PreflightTest, LookingAtThisMachineLeavesNothingBehind) {
  int before = NumOpenDescriptors();
  Preflight preflight = CheckPath(path_.path());
  EXPECT_EQ(FindingOf(preflight, "path").value, "directory, writable");
  EXPECT_EQ(FindingOf(preflight, "trial_write").severity, kFine)
      << FindingOf(preflight, "trial_write").value;
  EXPECT_FALSE(CheckMachine().findings.empty());
  EXPECT_TRUE(IsEmpty(path_.path()));
  EXPECT_EQ(NumOpenDescriptors(), before);
}

TEST_F(PreflightTest, WhatIsMissingIsAProblemAndNothingElseIsSaid) {
  Preflight preflight = CheckPath(path_.File("no ne"));
  ASSERT_EQ(preflight.findings.size(), 1u);
  EXPECT_TRUE(preflight.HasProblem());
  EXPECT_EQ(preflight.findings[0].command, "mkdir -p '" + path_.File("no ne") + "'");
}

// root may write anywhere, so somebody else looks: in a fork, which ends without
// the leak check that sanitizers cannot make as somebody else.
TEST_F(PreflightTest, ADirectoryOfSomebodyElseIsAProblemAndStaysTheirs) {
  std::filesystem::permissions(path_.path(), std::filesystem::perms(0555));
  auto look_as_nobody = [&] {
    if (geteuid() == 0 &&
        (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
      _exit(2);
    Finding finding = FindingOf(CheckPath(path_.path()), "path");
    std::fprintf(stderr, "%s; %s", finding.value.c_str(), finding.command.c_str());
    _exit(finding.severity == kProblem ? 0 : 1);
  };
  EXPECT_EXIT(look_as_nobody(), testing::ExitedWithCode(0),
              "directory, not writable: Permission denied; sudo install -d .*/strata");
}

TEST_F(PreflightTest, AFileIsLookedAtAndStaysAsItIs) {
  ASSERT_TRUE(WriteFileAtomically(path_.File("data"), "precious").ok());
  Preflight preflight = CheckPath(path_.File("data"));
  EXPECT_EQ(FindingOf(preflight, "path").value, "file, writable");
  EXPECT_NE(FindingOf(preflight, "direct_io").value, "absent");
  EXPECT_EQ(OrDie(ReadSmallFile(path_.File("data"), 100)), "precious");
}

TEST_F(PreflightTest, WhatIsNeitherFileNorDirectoryIsAProblem) {
  EXPECT_EQ(FindingOf(CheckPath("/dev/null"), "path").severity, kProblem);
}

TEST_F(PreflightTest, AReadOnlyMountIsAProblemThatNamesTheRemount) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(path_.File("mount"), "4m"));
  ASSERT_TRUE(mount->Remount("ro"));
  Preflight preflight = CheckPath(mount->at());
  EXPECT_EQ(FindingOf(preflight, "path").severity, kProblem);
  EXPECT_THAT(FindingOf(preflight, "path").value, HasSubstr("Read-only file system"));
  EXPECT_EQ(FindingOf(preflight, "mount_option").value, "ro");
  EXPECT_EQ(FindingOf(preflight, "mount_option").command,
            "sudo mount -o remount,rw " + mount->at());
}

TEST_F(PreflightTest, ADirectoryInMemorySaysWhatItIs) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(path_.File("mount"), "4m"));
  Preflight preflight = CheckPath(mount->at());
  EXPECT_EQ(FindingOf(preflight, "file_system").severity, kNote);
  EXPECT_THAT(FindingOf(preflight, "file_system").value, StartsWith("tmpfs on "));
  EXPECT_EQ(FindingOf(preflight, "drive").value, "none of this machine");
  EXPECT_EQ(FindingOf(preflight, "free_space").severity, kNote);
  EXPECT_TRUE(IsEmpty(mount->at()));
}

TEST_F(PreflightTest, AFullFileSystemIsAProblemInSpaceAndInTrying) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(path_.File("mount"), "512k"));
  Preflight preflight = CheckPath(mount->at());
  EXPECT_EQ(FindingOf(preflight, "free_space").severity, kProblem);
  EXPECT_EQ(FindingOf(preflight, "trial_write").severity, kProblem);
  EXPECT_THAT(FindingOf(preflight, "trial_write").value, HasSubstr("No space left on device"));
  EXPECT_TRUE(IsEmpty(mount->at()));
}

TEST_F(PreflightTest, WithoutADescriptorLeftTryingSaysSo) {
  std::vector<Finding> findings;
  {
    DescriptorLimit limit(0);
    findings = DirectIoFindings(path_.path());
  }
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, kProblem);
  EXPECT_THAT(findings[0].value, HasSubstr("Too many open files"));
}

TEST_F(PreflightTest, AFreeDeviceSaysThatWritingDestroysWhatIsOnIt) {
  STRATA_LOOP_OR_SKIP(loop, TemporaryLoop::Attach(path_.File("drive"), 8_MiB, 4096));
  Preflight preflight = CheckPath(loop->device());
  EXPECT_EQ(FindingOf(preflight, "path").value, "block device, writable");
  EXPECT_EQ(FindingOf(preflight, "device_use").value, "no");
  EXPECT_THAT(FindingOf(preflight, "direct_io").value, HasSubstr("multiples of 4096 bytes"));
}

TEST_F(PreflightTest, AMountedDeviceIsAProblem) {
  STRATA_LOOP_OR_SKIP(loop, TemporaryLoop::Attach(path_.File("drive"), 8_MiB, 512));
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4On(loop->device(), path_.File("mount")));
  Finding finding = FindingOf(CheckPath(loop->device()), "device_use");
  EXPECT_EQ(finding.severity, kProblem);
  EXPECT_THAT(finding.explanation, HasSubstr("mounted"));
  EXPECT_EQ(finding.command, "lsblk " + loop->device());
}

TEST_F(PreflightTest, AnExt4OfLargeBlocksWantsThem) {
  STRATA_LOOP_OR_SKIP(loop, TemporaryLoop::Attach(path_.File("drive"), 8_MiB, 4096));
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Ext4On(loop->device(), path_.File("mount")));
  Finding finding = FindingOf(CheckPath(mount->at()), "direct_io");
  EXPECT_THAT(finding.value, HasSubstr("multiples of 4096 bytes"));
}

}  // namespace
}  // namespace strata::aio
