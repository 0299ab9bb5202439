// The drives behind a path, as /sys tells of them.
//
//   /mnt/data -> md0 (raid0) -> nvme0n1, nvme1n1
//
// What a kernel or drive does not tell is empty.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "aio/preflight_roots.h"

namespace strata::aio {

// Since the device is there. Bytes are those that reached the device: merged requests count once.
struct BlockCounters {
  uint64_t num_reads = 0;
  uint64_t read_bytes = 0;
  uint64_t num_writes = 0;
  uint64_t written_bytes = 0;
  uint64_t num_in_flight = 0;
  uint64_t busy_ms = 0;  // with at least one request in flight
};

enum class BlockKind { kDisk, kPartition, kDeviceMapper, kRaid, kLoop };
std::string_view BlockKindName(BlockKind kind);  // "disk", "partition", ...

struct BlockDevice {
  std::string name;    // "nvme0n1p2"
  std::string number;  // "259:2"
  std::string sysfs_path;
  BlockKind kind = BlockKind::kDisk;
  std::string detail;  // a RAID's level, a mapping's name, a loop's file
  bool encrypts = false;
};

struct Drive {
  std::string name;    // "nvme0n1"
  std::string number;  // "259:0"
  std::string sysfs_path;
  std::string model;
  std::optional<bool> rotational;
  std::string scheduler;  // the chosen one
  std::optional<uint64_t> numa_node;
  std::optional<uint64_t> logical_block_bytes;
  std::optional<uint64_t> physical_block_bytes;
  std::optional<bool> io_poll;
  std::optional<uint64_t> max_segments;
  std::optional<uint64_t> max_transfer_bytes;           // what the kernel sends at once
  std::optional<uint64_t> max_hardware_transfer_bytes;  // what the drive could take
  std::optional<uint64_t> num_requests;                 // queued per hardware queue
  std::string write_cache;                              // "write back", "write through"
};

struct BlockChain {
  std::vector<BlockDevice> devices;  // the one that the path is on first
  std::vector<Drive> drives;         // what is at the bottom, each once

  std::string Describe() const;  // "md0 (raid0) on nvme0n1, nvme1n1"
};

// `path` is a file or directory on a file system, or a block device. kNotFound where there is no
// device: memory, a network.
Result<BlockChain> FindBlockChain(const std::string& path, const PreflightRoots& roots = {});

// Of a device or drive, by its sysfs_path.
Result<BlockCounters> ReadBlockCounters(const std::string& sysfs_path);

}  // namespace strata::aio
