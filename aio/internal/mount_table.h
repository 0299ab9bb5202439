// What is mounted where, as /proc/self/mountinfo tells.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/preflight_roots.h"

namespace strata::aio {

struct Mount {
  std::string at;             // "/mnt/nvme"
  std::string device_number;  // "259:1"; "0:..." has no device, or several
  std::string type;           // "ext4"
  std::string source;         // "/dev/nvme0n1p1", "server:/export", "tmpfs"
  std::vector<std::string> options;

  bool Has(std::string_view option) const;
};

// In the order in which they were mounted. Lines that are none are left out.
std::vector<Mount> ReadMounts(const PreflightRoots& roots);

// The mount that an absolute path without links is on.
std::optional<Mount> MountOf(const std::string& path, const PreflightRoots& roots);

}  // namespace strata::aio
