#include "aio/internal/block_device.h"

#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>

namespace strata::aio {

bool IsBlockDevice(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

bool IsBlockDevice(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISBLK(info.st_mode);
}

Status BlockDeviceInUse(const std::string& path) {
  return FailedPrecondition(
      fmt::format("open {}: the device is in use: mounted, swap, part of a RAID or of a volume "
                  "group, or open in "
                  "another program; 'lsblk {}' shows by what: release it, or name another device",
                  path, path));
}

Result<uint64_t> BlockDeviceBytes(int fd, const std::string& path) {
  uint64_t size_bytes = 0;
  if (ioctl(fd, BLKGETSIZE64, &size_bytes) != 0)
    return ErrnoStatus(errno, "ask for the size of " + path);
  return size_bytes;
}

}  // namespace strata::aio
