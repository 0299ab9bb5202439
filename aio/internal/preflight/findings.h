// What CheckMachine() and CheckPath() are made of: one function per thing that is looked at.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aio/base/status.h"
#include "aio/drive.h"
#include "aio/internal/mount_table.h"
#include "aio/preflight.h"

namespace strata::aio {

// What a finding is about; turns into one when it is known how that stands.
struct Topic {
  std::string key;
  std::string what;

  Finding Fine(std::string value) const { return {key, what, std::move(value)}; }
  Finding Unknown() const { return Fine("unknown"); }
  Finding Note(std::string value, std::string explanation, std::string command = {}) const {
    return {key,
            what,
            std::move(value),
            FindingSeverity::kNote,
            std::move(explanation),
            std::move(command)};
  }
  Finding Problem(std::string value, std::string explanation, std::string command = {}) const {
    return {key,
            what,
            std::move(value),
            FindingSeverity::kProblem,
            std::move(explanation),
            std::move(command)};
  }
};

// As a shell takes it: in quotes where it must be.
std::string Quoted(const std::string& path);

// Whether the path is there, what it is, and whether this user may write to it.
Finding PathFinding(const std::string& path);

// `path` is where files are to be made; the mount is the one that it is on.
Finding FileSystemFinding(const std::string& path, const std::optional<Mount>& mount);
std::vector<Finding> MountOptionFindings(const std::optional<Mount>& mount);

// As this user has it.
struct SpaceLeft {
  uint64_t free_bytes = 0;
  uint64_t size_bytes = 0;
  uint64_t num_free_inodes = 0;
  uint64_t num_inodes = 0;  // 0: the file system does not count them
};
Result<SpaceLeft> AskSpaceLeft(const std::string& path);
std::vector<Finding> SpaceFindings(const std::string& path, const SpaceLeft& left);

// Makes a file without a name in the directory, writes to it past the page cache and reads it back.
std::vector<Finding> DirectIoFindings(const std::string& directory);
// Of a file that stays as it is.
Finding DirectIoOfFile(const std::string& path);
// Whether somebody else has the block device, and its direct I/O.
std::vector<Finding> DeviceFindings(const std::string& path);

Finding ChainFinding(const Result<BlockChain>& chain);
std::vector<Finding> LayerFindings(const BlockChain& chain);
std::vector<Finding> DriveFindings(const Drive& drive, const PreflightRoots& roots);
Finding NumaFinding(const Drive& drive, const PreflightRoots& roots);
Finding ThrottleFinding(const BlockChain& chain, const PreflightRoots& roots);

Finding LockedMemoryFinding(const PreflightRoots& roots);
Finding FileSizeFinding(const PreflightRoots& roots);
Finding OpenFilesFinding(const PreflightRoots& roots);
Finding LibaioFinding(const PreflightRoots& roots);
std::vector<Finding> MemoryFindings(const PreflightRoots& roots);
Finding CgroupMemoryFinding(const PreflightRoots& roots);

}  // namespace strata::aio
