// The drives a path's file system lies on, as sysfs knows them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace strata::tiering {

struct Drive {
  std::string name;                   // "nvme0n1"
  std::optional<uint32_t> numa_node;  // where sysfs tells
};

// Whole drives, below partitions, RAID and device mapper; empty where there is none (tmpfs) or
// sysfs does not say.
std::vector<Drive> DrivesBelow(const std::string& path);

}  // namespace strata::tiering
