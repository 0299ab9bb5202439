#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>

#include "aio/drive.h"
#include "aio/internal/block_tree.h"
#include "aio/internal/mount_table.h"

namespace strata::aio {
namespace {

// The device's directory by its number, "259:1".
std::optional<std::string> ByNumber(const std::string& number, const PreflightRoots& roots) {
  return RealPath(roots.sys + "/dev/block/" + number);
}

// Some file systems (btrfs) have no device number of their own, but name what they are mounted
// from.
std::optional<std::string> ByName(const std::string& source, const PreflightRoots& roots) {
  constexpr std::string_view kDev = "/dev/";
  if (!source.starts_with(kDev)) return std::nullopt;
  std::optional<std::string> node = RealPath(roots.dev + "/" + source.substr(kDev.size()));
  if (!node) return std::nullopt;
  return RealPath(roots.sys + "/class/block/" + std::filesystem::path(*node).filename().string());
}

std::optional<std::string> DeviceBelowFile(const std::string& path, const PreflightRoots& roots) {
  std::optional<Mount> mount = MountOf(RealPath(path).value_or(path), roots);
  if (!mount) return std::nullopt;
  if (auto directory = ByNumber(mount->device_number, roots)) return directory;
  return ByName(mount->source, roots);
}

std::optional<std::string> DeviceAt(const std::string& path, const PreflightRoots& roots) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode))
    return ByNumber(fmt::format("{}:{}", major(info.st_rdev), minor(info.st_rdev)), roots);
  return DeviceBelowFile(path, roots);
}

// What a device passes its requests on to; nothing for a drive.
std::vector<std::string> DevicesBelow(const BlockDevice& device, const PreflightRoots& roots) {
  if (device.kind == BlockKind::kPartition)
    return {std::filesystem::path(device.sysfs_path).parent_path()};
  if (device.kind == BlockKind::kLoop) {
    std::optional<std::string> below = DeviceBelowFile(device.detail, roots);
    return below ? std::vector{*below} : std::vector<std::string>();
  }
  return LinkedDirectories(device.sysfs_path + "/slaves");
}

void Descend(const std::string& sysfs_path, const PreflightRoots& roots, BlockChain& chain) {
  auto is_here = [&](const BlockDevice& device) { return device.sysfs_path == sysfs_path; };
  if (std::any_of(chain.devices.begin(), chain.devices.end(), is_here)) return;
  BlockDevice device = ReadBlockDevice(sysfs_path);
  chain.devices.push_back(device);
  std::vector<std::string> below = DevicesBelow(device, roots);
  if (below.empty()) chain.drives.push_back(ReadDrive(sysfs_path, roots));
  for (const std::string& path : below) Descend(path, roots, chain);
}

}  // namespace

Result<BlockChain> FindBlockChain(const std::string& path, const PreflightRoots& roots) {
  std::optional<std::string> sysfs_path = DeviceAt(path, roots);
  if (!sysfs_path) return NotFound(path + ": no drive of this machine is known to be behind it");
  BlockChain chain;
  Descend(*sysfs_path, roots, chain);
  return chain;
}

}  // namespace strata::aio
