#include <fmt/format.h>

#include <algorithm>

#include "aio/drive.h"
#include "aio/internal/attribute.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

using Ranges = std::vector<NumberRange>;

std::optional<Ranges> ReadRanges(const std::string& path) {
  std::optional<std::string> text = ReadAttribute(path);
  return text ? ParseRanges(*text) : std::nullopt;
}

bool IsWithin(const Ranges& inner, const Ranges& outer) {
  return std::all_of(inner.begin(), inner.end(), [&](const NumberRange& range) {
    return std::any_of(outer.begin(), outer.end(), [&](const NumberRange& other) {
      return other.first <= range.first && range.last <= other.last;
    });
  });
}

bool IsOne(const Ranges& ranges) { return ranges.size() == 1 && ranges[0].first == ranges[0].last; }

// Whether this process runs on cores of the node only.
bool RunsOn(uint64_t node, const PreflightRoots& roots) {
  std::optional<std::string> status = ReadAttribute(roots.proc + "/self/status");
  std::optional<std::string> field = status ? FieldOf(*status, "Cpus_allowed_list:") : std::nullopt;
  std::optional<Ranges> allowed = field ? ParseRanges(*field) : std::nullopt;
  std::optional<Ranges> near =
      ReadRanges(fmt::format("{}/devices/system/node/node{}/cpulist", roots.sys, node));
  return allowed && near && IsWithin(*allowed, *near);
}

}  // namespace

Finding NumaFinding(const Drive& drive, const PreflightRoots& roots) {
  Topic topic = {"numa_node", "NUMA node of " + drive.name};
  std::optional<Ranges> nodes = ReadRanges(roots.sys + "/devices/system/node/online");
  if (!nodes) return topic.Unknown();
  if (IsOne(*nodes)) return topic.Fine("the only one");
  if (!drive.numa_node) return topic.Unknown();
  std::string value = fmt::format("{}", *drive.numa_node);
  if (RunsOn(*drive.numa_node, roots)) return topic.Fine(value + ", as this process");
  return topic.Note(
      value,
      "This process may run on cores of other nodes, which reach the drive and the "
      "memory beside it over a slower link. Bind it to the drive's node.",
      fmt::format("numactl --cpunodebind={0} --membind={0} strata ...", *drive.numa_node));
}

}  // namespace strata::aio
