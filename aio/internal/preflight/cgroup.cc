// What the process's cgroup (version 2) takes from it.
#include <fmt/format.h>

#include <algorithm>

#include "aio/base/units.h"
#include "aio/drive.h"
#include "aio/internal/attribute.h"
#include "aio/internal/mount_table.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

const Topic kThrottle = {"io_throttle", "I/O limit of the cgroup"};
const Topic kMemory = {"cgroup_memory", "memory of the cgroup"};

// Where cgroup v2 is mounted, below the given root of /sys.
std::optional<std::string> CgroupRoot(const PreflightRoots& roots) {
  constexpr std::string_view kSys = "/sys";
  for (const Mount& mount : ReadMounts(roots)) {
    if (mount.type == "cgroup2" && mount.at.starts_with(kSys))
      return roots.sys + mount.at.substr(kSys.size());
  }
  return std::nullopt;
}

struct Cgroup {
  std::string path;  // "/system.slice/train.service"
  std::string directory;
};

// The process's own and those above it: the limits of all of them hold.
std::vector<Cgroup> CgroupsOfProcess(const PreflightRoots& roots) {
  std::optional<std::string> root = CgroupRoot(roots);
  std::optional<std::string> text = ReadAttribute(roots.proc + "/self/cgroup");
  std::optional<std::string> path = text ? FieldOf(*text, "0::") : std::nullopt;
  if (!root || !path || !path->starts_with('/') || path->find("..") != std::string::npos) return {};
  std::vector<Cgroup> cgroups;
  while (!path->empty() && cgroups.size() < 64) {
    cgroups.push_back({*path, *root + *path});
    *path = *path == "/" ? "" : path->substr(0, std::max<size_t>(path->rfind('/'), 1));
  }
  return cgroups;
}

bool IsIn(const BlockChain& chain, std::string_view number) {
  auto is_it = [&](const auto& device) { return device.number == number; };
  return !number.empty() && (std::any_of(chain.devices.begin(), chain.devices.end(), is_it) ||
                             std::any_of(chain.drives.begin(), chain.drives.end(), is_it));
}

bool Limits(const std::string& word) {
  size_t equals = word.find('=');
  return equals != std::string::npos && ParseNumber(word.substr(equals + 1)).has_value();
}

// "259:0 rbps=1048576 wbps=max": what limits there is on a device of the chain; else empty.
std::string LimitsOf(const std::string& line, const BlockChain& chain) {
  std::vector<std::string> words = SplitWords(line);
  if (words.empty() || !IsIn(chain, words[0])) return "";
  std::string limits;
  for (size_t i = 1; i < words.size(); ++i) {
    if (Limits(words[i])) limits += (limits.empty() ? "" : " ") + words[i];
  }
  return limits.empty() ? "" : words[0] + " " + limits;
}

Finding Throttled(const Cgroup& cgroup, const std::string& limits) {
  std::string device = limits.substr(0, limits.find(' '));
  return kThrottle.Problem(fmt::format("{} in {}", limits, cgroup.path),
                           "The kernel slows this process down to that, whatever the drive can do.",
                           fmt::format("echo '{} rbps=max wbps=max riops=max wiops=max' | sudo tee "
                                       "/sys/fs/cgroup{}/io.max",
                                       device, cgroup.path == "/" ? "" : cgroup.path));
}

std::optional<uint64_t> WeightOf(const Cgroup& cgroup) {
  std::optional<std::string> text = ReadAttribute(cgroup.directory + "/io.weight");
  std::optional<std::string> weight = text ? FieldOf(*text, "default ") : std::nullopt;
  return weight ? ParseNumber(*weight) : std::nullopt;
}

struct MemoryLimit {
  uint64_t limit_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t free_bytes() const { return limit_bytes - std::min(used_bytes, limit_bytes); }
};

std::optional<MemoryLimit> TightestMemoryLimit(const PreflightRoots& roots) {
  std::optional<MemoryLimit> tightest;
  for (const Cgroup& cgroup : CgroupsOfProcess(roots)) {
    std::optional<uint64_t> limit_bytes = ReadNumber(cgroup.directory + "/memory.max");
    if (!limit_bytes) continue;  // "max", or none
    MemoryLimit limit = {*limit_bytes,
                         ReadNumber(cgroup.directory + "/memory.current").value_or(0)};
    if (!tightest || limit.free_bytes() < tightest->free_bytes()) tightest = limit;
  }
  return tightest;
}

}  // namespace

Finding ThrottleFinding(const BlockChain& chain, const PreflightRoots& roots) {
  std::vector<Cgroup> cgroups = CgroupsOfProcess(roots);
  if (cgroups.empty()) return kThrottle.Unknown();
  for (const Cgroup& cgroup : cgroups) {
    for (const std::string& line :
         SplitLines(ReadAttribute(cgroup.directory + "/io.max").value_or(""))) {
      if (std::string limits = LimitsOf(line, chain); !limits.empty())
        return Throttled(cgroup, limits);
    }
    if (uint64_t weight = WeightOf(cgroup).value_or(100); weight < 100) {
      return kThrottle.Note(
          fmt::format("weight {} in {}", weight, cgroup.path),
          "Others that use the drive at the same time get more of it than this "
          "process; 100 is usual.",
          fmt::format("echo 'default 100' | sudo tee /sys/fs/cgroup{}/io.weight", cgroup.path));
    }
  }
  return kThrottle.Fine("none");
}

Finding CgroupMemoryFinding(const PreflightRoots& roots) {
  std::optional<MemoryLimit> limit = TightestMemoryLimit(roots);
  if (!limit) return kMemory.Fine("not limited");
  std::string value = fmt::format("{} of {} left", FormatBytes(limit->free_bytes()),
                                  FormatBytes(limit->limit_bytes));
  if (limit->free_bytes() < 1_GiB) {
    return kMemory.Note(value,
                        "A process that passes the limit is killed. Memory budgets must stay below "
                        "it, the page cache of this cgroup included.",
                        "systemd-run --scope -p MemoryMax=infinity strata ...");
  }
  return kMemory.Fine(value);
}

}  // namespace strata::aio
