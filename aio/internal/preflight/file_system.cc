#include <fmt/format.h>

#include <array>

#include "aio/internal/mount_table.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

const Topic kFileSystem = {"file_system", "file system"};
const Topic kMountOption = {"mount_option", "mount option"};

struct Advice {
  std::string_view type;  // of the file system, or an option of its mount
  FindingSeverity severity;
  std::string_view explanation;
  std::string_view command = {};  // "{}" stands for the path or for where it is mounted
};

constexpr auto kNote = FindingSeverity::kNote;
constexpr auto kProblem = FindingSeverity::kProblem;

constexpr std::string_view kInMemory =
    "Files here are memory: nothing reaches a drive, everything is lost with the machine, and a "
    "measurement measures the page cache.";
constexpr std::string_view kNetwork =
    "Files here are behind a network: its speed is theirs, direct I/O and fdatasync mean what the "
    "server makes of them, and other machines may slow it down. Use a drive of this machine.";
constexpr std::string_view kForeign =
    "This file system is made for exchange, not for speed: it lacks preallocation or a journal. "
    "Use "
    "ext4 or xfs.";

// NVMe drives are best served by ext4 and xfs, of which there is nothing to say.
constexpr std::array kTypes = {
    Advice{"tmpfs", kNote, kInMemory},
    Advice{"ramfs", kNote, kInMemory},
    Advice{"nfs", kNote, kNetwork},
    Advice{"nfs4", kNote, kNetwork},
    Advice{"cifs", kNote, kNetwork},
    Advice{"smb3", kNote, kNetwork},
    Advice{"9p", kNote, kNetwork},
    Advice{"ceph", kNote, kNetwork},
    Advice{"lustre", kNote, kNetwork},
    Advice{"virtiofs", kNote, kNetwork},
    Advice{
        "fuse", kNote,
        "Every request goes through a program (FUSE) before it reaches a drive, which costs most "
        "of the drive's speed, and direct I/O may be emulated. Use the drive's own file system."},
    Advice{
        "overlay", kNote,
        "This is a container's own layer: the first write to an old file copies it whole, and the "
        "space is that of the container engine. Use a directory of the host.",
        "docker run --volume /mnt/nvme:/mnt/nvme ..."},
    Advice{
        "btrfs", kNote,
        "btrfs copies on every write and checksums it, which costs space, order on the drive and "
        "cores. Strata checksums by itself: switch that off for an empty directory.",
        "chattr +C {}"},
    Advice{"zfs", kNote,
           "ZFS has its own cache, copies on every write and, before 2.3, takes O_DIRECT without "
           "meaning it: measurements may be of memory. Use ext4 or xfs on the bare drive."},
    Advice{"vfat", kNote, kForeign},
    Advice{"exfat", kNote, kForeign},
    Advice{"ntfs", kNote, kForeign},
    Advice{"ntfs3", kNote, kForeign},
    Advice{"ext2", kNote, kForeign},
};

constexpr std::array kOptions = {
    Advice{"sync", kProblem,
           "Every write waits until the drive has it, instead of only those that must.",
           "sudo mount -o remount,async {}"},
    Advice{
        "data=journal", kProblem,
        "ext4 writes all data twice, and has no direct I/O, with this option: unmount, and mount "
        "without it."},
    Advice{"nobarrier", kProblem,
           "fdatasync does not flush the drive's cache: what was committed may be lost with the "
           "power.",
           "sudo mount -o remount,barrier {}"},
    Advice{"barrier=0", kProblem,
           "fdatasync does not flush the drive's cache: what was committed may be lost with the "
           "power.",
           "sudo mount -o remount,barrier=1 {}"},
    Advice{"dirsync", kNote, "Making and removing files waits for the drive.",
           "sudo mount -o remount,nodirsync {}"},
    Advice{"discard", kNote,
           "Removing a large file makes the drive trim it there and then, which stalls other "
           "requests on some drives. A weekly fstrim does the same in a quiet hour.",
           "sudo systemctl enable --now fstrim.timer && sudo mount -o remount,nodiscard {}"},
};

Finding Advise(const Topic& topic, const std::string& value, const Advice& advice,
               const std::string& path) {
  std::string command(advice.command);
  if (size_t at = command.find("{}"); at != std::string::npos) command.replace(at, 2, Quoted(path));
  Finding finding = topic.Note(value, std::string(advice.explanation), command);
  finding.severity = advice.severity;
  return finding;
}

bool IsType(std::string_view type, std::string_view of) {
  return type == of || (of == "fuse" && type.starts_with("fuse"));
}

}  // namespace

Finding FileSystemFinding(const std::string& path, const std::optional<Mount>& mount) {
  if (!mount) return kFileSystem.Unknown();
  std::string value = fmt::format("{} on {}", mount->type, mount->at);
  for (const Advice& advice : kTypes) {
    if (IsType(mount->type, advice.type)) return Advise(kFileSystem, value, advice, path);
  }
  return kFileSystem.Fine(value);
}

std::vector<Finding> MountOptionFindings(const std::optional<Mount>& mount) {
  std::vector<Finding> findings;
  if (!mount) return findings;
  for (const Advice& advice : kOptions) {
    if (!mount->Has(advice.type)) continue;
    findings.push_back(Advise(kMountOption, std::string(advice.type), advice, mount->at));
  }
  if (mount->Has("ro")) {
    findings.push_back(kMountOption.Problem(
        "ro",
        "Nothing can be written. After an error the kernel mounts read-only by itself: look at its "
        "log (dmesg) first.",
        "sudo mount -o remount,rw " + Quoted(mount->at)));
  }
  return findings;
}

}  // namespace strata::aio
