// A file opened for direct I/O where the file system allows it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "aio/base/status.h"

namespace strata::aio {

enum class FileAccess { kReadOnly, kReadWrite };
enum class FileCreate {
  kMustExist,
  kCreateNew,
  kCreateOrOpen,
  kUnnamed,  // in the directory that the path names: gone when closed, whatever ends the process
};
enum class BlockDevices { kRefuse, kAllow };

struct FileOptions {
  FileAccess access = FileAccess::kReadOnly;
  FileCreate create = FileCreate::kMustExist;
  // Go past the page cache. Where the file system refuses O_DIRECT (some tmpfs), the file works
  // through the page cache, direct() is false, and a line in the log says so once per file system.
  bool direct = true;
  // Whether the path may be a drive or partition, whose content is then that of the file. One that
  // is opened kReadWrite is claimed: kFailedPrecondition when it is mounted or otherwise in use.
  BlockDevices block_devices = BlockDevices::kRefuse;
};

// Thread-safe after Open. Move-only; closes its descriptor.
class File {
 public:
  static Result<File> Open(const std::string& path, const FileOptions& options);

  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();

  int fd() const { return fd_; }
  const std::string& path() const { return *path_; }
  // Outlives the file, for messages about it.
  std::shared_ptr<const std::string> shared_path() const { return path_; }
  bool direct() const { return direct_; }

  // What offsets, lengths (and memory addresses) must be multiples of, from statx(STATX_DIOALIGN);
  // 1 when the file goes through the page cache.
  uint64_t offset_alignment_bytes() const { return offset_alignment_bytes_; }
  uint64_t memory_alignment_bytes() const { return memory_alignment_bytes_; }

  Result<uint64_t> SizeBytes() const;

  // Gives the file exactly this size with its blocks allocated (fallocate, or written zeros where
  // that is not supported), so that ENOSPC comes now. Existing content stays. A block device stays
  // as it is; asking for more than it has is kResourceExhausted.
  Status Preallocate(uint64_t size_bytes);

  // A second descriptor of the same file that goes through the page cache, for bytes that direct
  // I/O cannot address. Opened by the first call, closed with the file.
  Result<int> BufferedFd() const;

  // fdatasync. A failure is final: the kernel may have dropped what it could not write, so that a
  // second call would report success. Every later call on this File returns the first failure; who
  // opens the path anew must write again what was not synced.
  Status SyncData();

 private:
  struct State;
  File(int fd, const std::string& path);
  bool TryDirect();

  int fd_ = -1;
  std::shared_ptr<const std::string> path_;  // shared with requests, which may be told of it later
  std::unique_ptr<State> state_;
  bool direct_ = false;
  uint64_t offset_alignment_bytes_ = 1;
  uint64_t memory_alignment_bytes_ = 1;
};

// Writes `content` to a temporary name beside `path`, fsyncs it, renames it over `path` and fsyncs
// the directory: afterwards the file is whole, or as before. Buffered; for small files. One writer
// per path at a time.
Status WriteFileAtomically(const std::string& path, std::string_view content);

// The whole of a small file. More than `limit_bytes` is an error.
Result<std::string> ReadSmallFile(const std::string& path, uint64_t limit_bytes);

}  // namespace strata::aio
