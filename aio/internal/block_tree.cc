#include "aio/internal/block_tree.h"

#include <algorithm>
#include <filesystem>

#include "aio/base/units.h"
#include "aio/internal/attribute.h"

namespace strata::aio {
namespace {

namespace fs = std::filesystem;

std::string Text(const std::string& path) { return ReadAttribute(path).value_or(""); }

std::optional<bool> ReadSwitch(const std::string& path) {
  std::optional<uint64_t> number = ReadNumber(path);
  if (!number || *number > 1) return std::nullopt;
  return *number == 1;
}

std::optional<uint64_t> ReadKib(const std::string& path) {
  std::optional<uint64_t> kib = ReadNumber(path);
  if (!kib || *kib >= 1ULL << 40) return std::nullopt;
  return *kib * 1_KiB;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// With one scheduler only, some kernels leave out the brackets.
std::string SchedulerOf(const std::string& text) {
  if (std::optional<std::string> chosen = ChosenWord(text)) return *chosen;
  std::vector<std::string> words = SplitWords(text);
  return words.size() == 1 ? words[0] : "";
}

void ReadQueue(const std::string& queue, Drive& drive) {
  drive.rotational = ReadSwitch(queue + "/rotational");
  drive.scheduler = SchedulerOf(Text(queue + "/scheduler"));
  drive.logical_block_bytes = ReadNumber(queue + "/logical_block_size");
  drive.physical_block_bytes = ReadNumber(queue + "/physical_block_size");
  drive.io_poll = ReadSwitch(queue + "/io_poll");
  drive.max_segments = ReadNumber(queue + "/max_segments");
  drive.max_transfer_bytes = ReadKib(queue + "/max_sectors_kb");
  drive.max_hardware_transfer_bytes = ReadKib(queue + "/max_hw_sectors_kb");
  drive.num_requests = ReadNumber(queue + "/nr_requests");
  drive.write_cache = Text(queue + "/write_cache");
}

}  // namespace

BlockDevice ReadBlockDevice(const std::string& sysfs_path) {
  BlockDevice device{.name = fs::path(sysfs_path).filename(),
                     .number = Text(sysfs_path + "/dev"),
                     .sysfs_path = sysfs_path,
                     .detail = {}};
  if (Exists(sysfs_path + "/partition")) {
    device.kind = BlockKind::kPartition;
  } else if (Exists(sysfs_path + "/dm")) {
    device.kind = BlockKind::kDeviceMapper;
    device.detail = Text(sysfs_path + "/dm/name");
    device.encrypts = Text(sysfs_path + "/dm/uuid").starts_with("CRYPT-");
  } else if (Exists(sysfs_path + "/md")) {
    device.kind = BlockKind::kRaid;
    device.detail = Text(sysfs_path + "/md/level");
  } else if (Exists(sysfs_path + "/loop/backing_file")) {
    device.kind = BlockKind::kLoop;
    device.detail = Text(sysfs_path + "/loop/backing_file");
  }
  return device;
}

Drive ReadDrive(const std::string& sysfs_path, const PreflightRoots& roots) {
  Drive drive;
  drive.name = fs::path(sysfs_path).filename();
  drive.number = Text(sysfs_path + "/dev");
  drive.sysfs_path = sysfs_path;
  drive.model = Text(sysfs_path + "/device/model");
  ReadQueue(sysfs_path + "/queue", drive);
  // A drive on no node in particular has -1 there, which is no number.
  if (auto directory = DirectoryAboveWith("numa_node", sysfs_path, roots))
    drive.numa_node = ReadNumber(*directory + "/numa_node");
  return drive;
}

std::optional<std::string> DirectoryAboveWith(std::string_view file, const std::string& sysfs_path,
                                              const PreflightRoots& roots) {
  std::string root = RealPath(roots.sys).value_or(roots.sys);
  fs::path directory = sysfs_path;
  while (directory.native().size() > root.size() && directory.native().starts_with(root)) {
    if (Exists(directory / file)) return directory;
    directory = directory.parent_path();
  }
  return std::nullopt;
}

std::vector<std::string> LinkedDirectories(const std::string& directory) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (std::optional<std::string> real = RealPath(entry->path())) found.push_back(*real);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<std::string> RealPath(const std::string& path) {
  std::error_code error;
  fs::path real = fs::canonical(path, error);
  if (error) return std::nullopt;
  return real;
}

}  // namespace strata::aio
