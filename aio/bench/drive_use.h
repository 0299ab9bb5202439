// What drives themselves count, to hold a benchmark's own figures against.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "aio/bench/target.h"

namespace strata::aio {

struct DriveUse {
  std::string name;  // "nvme0n1", "dm-0": what the file system lies on
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
};

// Thread-compatible. Counts between calls of Begin and End, added up.
class DriveUseMeter {
 public:
  // The devices under the paths, each once. Where the kernel counts nothing (memory, networks),
  // and where the page cache stands between, there is none.
  explicit DriveUseMeter(std::span<const TargetPath> paths);

  void Begin();
  void End();
  const std::vector<DriveUse>& uses() const { return uses_; }

 private:
  struct Moment {
    uint64_t read_bytes = 0;
    uint64_t written_bytes = 0;
  };
  Moment Read(const std::string& sysfs_path) const;

  std::vector<std::string> sysfs_paths_;  // by index of uses_
  std::vector<Moment> begin_;
  std::vector<DriveUse> uses_;
};

}  // namespace strata::aio
