// How much memory this process can still get: of the machine, and of its control group.
#pragma once

#include <cstdint>
#include <string>

namespace strata::tiering {

// The smaller of MemAvailable and what the process's cgroup (v1 or v2) has left, its file cache
// counted as free. What cannot be read does not limit; UINT64_MAX when nothing can. `root` is where
// proc/ and sys/ are found.
uint64_t AvailableMemoryBytes(const std::string& root = "/");

}  // namespace strata::tiering
