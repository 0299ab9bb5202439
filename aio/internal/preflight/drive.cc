#include "aio/drive.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/units.h"
#include "aio/internal/attribute.h"
#include "aio/internal/block_tree.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

Topic Of(const Drive& drive, std::string key, std::string_view what) {
  return {std::move(key), fmt::format("{} of {}", what, drive.name)};
}

std::string QueueFile(const Drive& drive, std::string_view file) {
  return fmt::format("/sys/block/{}/queue/{}", drive.name, file);
}

std::string SetQueue(const Drive& drive, std::string_view file, std::string_view value) {
  return fmt::format("echo {} | sudo tee {}", value, QueueFile(drive, file));
}

Finding KindFinding(const Drive& drive) {
  Topic topic = Of(drive, "rotational", "kind");
  if (!drive.rotational) return topic.Unknown();
  std::string model = drive.model.empty() ? "" : fmt::format(" ({})", drive.model);
  if (!*drive.rotational) return topic.Fine("solid state" + model);
  return topic.Note(
      "rotating" + model,
      "A rotating disk moves a tenth of what an NVMe drive does. Virtual drives often "
      "claim to rotate when they do not.",
      SetQueue(drive, "rotational", "0"));
}

Finding SchedulerFinding(const Drive& drive) {
  Topic topic = Of(drive, "scheduler", "I/O scheduler");
  const std::string& value = drive.scheduler;
  if (value.empty()) return topic.Unknown();
  bool rotates = drive.rotational.value_or(false);
  if (value == "none" || (value == "mq-deadline" && !drive.name.starts_with("nvme")) || rotates)
    return topic.Fine(value);
  std::string command = SetQueue(drive, "scheduler", "none");
  if (value == "bfq") {
    return topic.Problem(
        value,
        "bfq shares a slow disk fairly; a fast drive loses much of its speed to it. "
        "A udev rule makes the change last.",
        command);
  }
  return topic.Note(value,
                    "A solid-state drive orders its requests better by itself: a scheduler costs "
                    "cores per request. A udev rule makes the change last.",
                    command);
}

Finding QueueFinding(const Drive& drive) {
  Topic topic = Of(drive, "queue", "queue");
  if (!drive.max_transfer_bytes || !drive.num_requests) return topic.Unknown();
  std::string value = fmt::format("{} requests of up to {}", *drive.num_requests,
                                  FormatBytes(*drive.max_transfer_bytes));
  uint64_t could_bytes = drive.max_hardware_transfer_bytes.value_or(0);
  if (*drive.max_transfer_bytes < 256_KiB && could_bytes > *drive.max_transfer_bytes) {
    return topic.Note(value,
                      fmt::format("The kernel cuts requests smaller than the drive asks for, which "
                                  "takes up to {}.",
                                  FormatBytes(could_bytes)),
                      SetQueue(drive, "max_sectors_kb", fmt::format("{}", could_bytes / 1_KiB)));
  }
  return topic.Fine(value);
}

Finding BlocksFinding(const Drive& drive) {
  Topic topic = Of(drive, "block_size", "blocks");
  if (!drive.logical_block_bytes) return topic.Unknown();
  return topic.Fine(fmt::format("{} bytes, {} physical", *drive.logical_block_bytes,
                                drive.physical_block_bytes.value_or(*drive.logical_block_bytes)));
}

Finding PollFinding(const Drive& drive) {
  Topic topic = Of(drive, "io_poll", "polling");
  if (!drive.io_poll) return topic.Unknown();
  return topic.Fine(*drive.io_poll ? "possible" : "not set up (iopoll = true cannot be used)");
}

Finding WriteCacheFinding(const Drive& drive) {
  Topic topic = Of(drive, "write_cache", "write cache");
  if (drive.write_cache.empty()) return topic.Unknown();
  return topic.Fine(drive.write_cache);
}

// A drive in a slot that is narrower or older than it.
std::vector<Finding> LinkFindings(const Drive& drive, const PreflightRoots& roots) {
  auto device = DirectoryAboveWith("max_link_width", drive.sysfs_path, roots);
  if (!device) return {};
  auto read = [&](std::string_view file) {
    return ReadAttribute(fmt::format("{}/{}", *device, file));
  };
  auto width = read("current_link_width"), max_width = read("max_link_width");
  auto speed = read("current_link_speed"), max_speed = read("max_link_speed");
  Topic topic = Of(drive, "pcie_link", "PCIe link");
  if (!width || !max_width || !speed || !max_speed) return {topic.Unknown()};
  std::string value = fmt::format("{} lanes at {}", *width, *speed);
  if (*width == *max_width && *speed == *max_speed) return {topic.Fine(value)};
  return {topic.Note(
      value, fmt::format("The drive could do {} lanes at {}: move it to another slot, or look "
                         "at the firmware's settings.",
                         *max_width, *max_speed))};
}

}  // namespace

Finding ChainFinding(const Result<BlockChain>& chain) {
  const Topic topic = {"drive", "drive"};
  return chain.ok() ? topic.Fine(chain->Describe()) : topic.Fine("none of this machine");
}

std::vector<Finding> LayerFindings(const BlockChain& chain) {
  std::vector<Finding> findings;
  for (const BlockDevice& device : chain.devices) {
    if (device.encrypts) {
      findings.push_back(Topic{"encryption", "encryption of " + device.name}.Note(
          "dm-crypt",
          "Every byte is encrypted by the cores that also train. Drives can encrypt by "
          "themselves; without their queues dm-crypt is faster.",
          fmt::format(
              "sudo cryptsetup refresh --perf-no_read_workqueue --perf-no_write_workqueue {}",
              Quoted(device.detail))));
    }
    if (device.detail == "raid4" || device.detail == "raid5" || device.detail == "raid6") {
      findings.push_back(Topic{"raid_level", "RAID level of " + device.name}.Note(
          device.detail,
          "Writes smaller than a stripe read the rest of it to make its parity. Strata "
          "spreads its files over several directories by itself: no RAID is needed."));
    }
  }
  return findings;
}

std::vector<Finding> DriveFindings(const Drive& drive, const PreflightRoots& roots) {
  std::vector<Finding> findings = {KindFinding(drive),  SchedulerFinding(drive),
                                   QueueFinding(drive), BlocksFinding(drive),
                                   PollFinding(drive),  WriteCacheFinding(drive)};
  for (Finding& finding : LinkFindings(drive, roots)) findings.push_back(std::move(finding));
  findings.push_back(NumaFinding(drive, roots));
  return findings;
}

}  // namespace strata::aio
