#include "aio/drive.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "aio/base/check.h"
#include "aio/internal/attribute.h"

namespace strata::aio {
namespace {

constexpr uint64_t kSectorBytes = 512;  // of the kernel's counters, whatever the drive's are

std::string Describe(const BlockDevice& device) {
  std::string text = device.name;
  if (!device.detail.empty()) text += fmt::format(" ({})", device.detail);
  if (device.encrypts) text += " (encrypted)";
  return text;
}

}  // namespace

std::string_view BlockKindName(BlockKind kind) {
  switch (kind) {
    case BlockKind::kDisk:
      return "disk";
    case BlockKind::kPartition:
      return "partition";
    case BlockKind::kDeviceMapper:
      return "device mapper";
    case BlockKind::kRaid:
      return "RAID";
    case BlockKind::kLoop:
      return "loop";
  }
  STRATA_CHECK(!"a kind of block device");
  return "";
}

std::string BlockChain::Describe() const {
  std::vector<std::string> above, below;
  for (const Drive& drive : drives) below.push_back(drive.name);
  for (const BlockDevice& device : devices) {
    if (std::find(below.begin(), below.end(), device.name) == below.end())
      above.push_back(aio::Describe(device));
  }
  if (above.empty()) return fmt::format("{}", fmt::join(below, ", "));
  return fmt::format("{} on {}", fmt::join(above, " on "), fmt::join(below, ", "));
}

Result<BlockCounters> ReadBlockCounters(const std::string& sysfs_path) {
  std::string path = sysfs_path + "/stat";
  std::optional<std::string> text = ReadAttribute(path);
  if (!text) return NotFound("read " + path + ": the kernel counts nothing there");
  std::vector<uint64_t> numbers;
  for (const std::string& word : SplitWords(*text)) {
    std::optional<uint64_t> number = ParseNumber(word);
    if (!number) return Internal(fmt::format("read {}: '{}' is not a number", path, word));
    numbers.push_back(*number);
  }
  if (numbers.size() < 11)
    return Internal(fmt::format("read {}: {} numbers instead of 11", path, numbers.size()));
  return BlockCounters{.num_reads = numbers[0],
                       .read_bytes = numbers[2] * kSectorBytes,
                       .num_writes = numbers[4],
                       .written_bytes = numbers[6] * kSectorBytes,
                       .num_in_flight = numbers[8],
                       .busy_ms = numbers[9]};
}

}  // namespace strata::aio
