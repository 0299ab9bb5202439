#include "aio/bench/drive_use.h"

#include <algorithm>

#include "aio/drive.h"

namespace strata::aio {

// What went through the page cache is with the drive later, or never: all or nothing is said.
DriveUseMeter::DriveUseMeter(std::span<const TargetPath> paths) {
  if (!std::all_of(paths.begin(), paths.end(), [](const TargetPath& path) { return path.direct; }))
    return;
  for (const TargetPath& path : paths) {
    Result<BlockChain> chain = FindBlockChain(path.path);
    if (!chain.ok() || chain->devices.empty()) continue;
    const BlockDevice& device = chain->devices.front();
    if (std::count(sysfs_paths_.begin(), sysfs_paths_.end(), device.sysfs_path) > 0) continue;
    if (!ReadBlockCounters(device.sysfs_path).ok()) continue;
    sysfs_paths_.push_back(device.sysfs_path);
    uses_.push_back({.name = device.name});
  }
}

DriveUseMeter::Moment DriveUseMeter::Read(const std::string& sysfs_path) const {
  Result<BlockCounters> counters = ReadBlockCounters(sysfs_path);
  if (!counters.ok()) return {};  // unplugged: the I/O says so
  return {.read_bytes = counters->read_bytes, .written_bytes = counters->written_bytes};
}

void DriveUseMeter::Begin() {
  begin_.clear();
  for (const std::string& path : sysfs_paths_) begin_.push_back(Read(path));
}

void DriveUseMeter::End() {
  for (size_t i = 0; i < uses_.size(); ++i) {
    Moment end = Read(sysfs_paths_[i]);
    uses_[i].read_bytes += end.read_bytes - begin_[i].read_bytes;
    uses_[i].written_bytes += end.written_bytes - begin_[i].written_bytes;
  }
}

}  // namespace strata::aio
