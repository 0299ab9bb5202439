#include "tiering/internal/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "aio/base/units.h"

namespace strata::tiering {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The number after `key` in a file of "key number" lines.
std::optional<uint64_t> NumberOf(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    uint64_t number = 0;
    if (words >> name >> number && name == key) return number;
  }
  return std::nullopt;
}

// cgroup v2 says "max" for no limit, which is no number.
std::optional<uint64_t> FirstNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

uint64_t CgroupLeftBytes(const std::string& directory, const char* limit_file,
                         const char* usage_file, const char* cache_key) {
  std::optional<uint64_t> limit = FirstNumber(directory + limit_file);
  std::optional<uint64_t> usage = FirstNumber(directory + usage_file);
  if (!limit || !usage) return kUnlimited;
  uint64_t cache = NumberOf(directory + "memory.stat", cache_key).value_or(0);
  uint64_t held = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, held);
}

// Lines of /proc/self/cgroup: "0::/path" (v2), "7:memory:/path" (v1).
uint64_t CgroupLineLeftBytes(const std::string& root, const std::string& line) {
  size_t first = line.find(':');
  size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos) return kUnlimited;
  std::string controllers = line.substr(first + 1, second - first - 1);
  std::string path = line.substr(second + 1);
  if (!path.ends_with('/')) path += '/';
  if (controllers.empty()) {
    return CgroupLeftBytes(root + "sys/fs/cgroup" + path, "memory.max", "memory.current",
                           "inactive_file");
  }
  if (controllers != "memory") return kUnlimited;
  return CgroupLeftBytes(root + "sys/fs/cgroup/memory" + path, "memory.limit_in_bytes",
                         "memory.usage_in_bytes", "total_inactive_file");
}

}  // namespace

uint64_t AvailableMemoryBytes(const std::string& root) {
  uint64_t available = kUnlimited;
  if (auto kib = NumberOf(root + "proc/meminfo", "MemAvailable:")) available = *kib * 1_KiB;
  std::ifstream cgroups(root + "proc/self/cgroup");
  std::string line;
  while (std::getline(cgroups, line))
    available = std::min(available, CgroupLineLeftBytes(root, line));
  return available;
}

}  // namespace strata::tiering
