#include "tiering/internal/store_files.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <map>
#include <string>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/io_buffer.h"
#include "tiering/arena.h"

namespace strata::tiering {
namespace {

constexpr uint64_t kChunkBytes = 4_MiB;
constexpr size_t kMaxWritesInFlight = 4;

struct Chunk {
  size_t file = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

// Of all files in turn, so that all drives are busy.
std::vector<Chunk> ChunksOf(const std::vector<uint64_t>& from_bytes,
                            const std::vector<uint64_t>& to_bytes) {
  std::vector<Chunk> chunks;
  std::vector<uint64_t> at_bytes = from_bytes;
  for (bool more = true; more;) {
    more = false;
    for (size_t file = 0; file < at_bytes.size(); ++file) {
      if (at_bytes[file] >= to_bytes[file]) continue;
      uint64_t length_bytes = std::min(kChunkBytes, to_bytes[file] - at_bytes[file]);
      chunks.push_back({file, at_bytes[file], length_bytes});
      at_bytes[file] += length_bytes;
      more = true;
    }
  }
  return chunks;
}

Status WriteZeros(const std::vector<aio::File>& files, const std::vector<Chunk>& chunks,
                  aio::IoEngine* engine, const InitialiseProgress& progress) {
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory zeros, aio::HugeMemory::Map(kChunkBytes));
  uint64_t total_bytes = 0;
  for (const Chunk& chunk : chunks) total_bytes += chunk.length_bytes;
  uint64_t done_bytes = 0;
  std::deque<aio::IoTicket> window;  // oldest first; declared after what its requests read
  for (size_t next = 0, oldest = 0; oldest < chunks.size(); ++oldest) {
    for (; next < chunks.size() && window.size() < kMaxWritesInFlight; ++next) {
      const Chunk& chunk = chunks[next];
      window.push_back(engine->StartWrite(files[chunk.file], chunk.offset_bytes,
                                          zeros.bytes().first(chunk.length_bytes)));
    }
    STRATA_RETURN_IF_ERROR(window.front().Wait());
    window.pop_front();
    done_bytes += chunks[oldest].length_bytes;
    if (progress) progress(done_bytes, total_bytes);
  }
  return OkStatus();
}

struct FileSystem {
  std::string directory;  // one that is on it
  uint64_t more_bytes = 0;
};

Status CheckFreeSpaceOn(const FileSystem& file_system) {
  struct statvfs space = {};
  if (statvfs(file_system.directory.c_str(), &space) != 0)
    return ErrnoStatus(errno, fmt::format("statvfs {}", file_system.directory));
  uint64_t free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
  if (file_system.more_bytes <= free_bytes) return OkStatus();
  return ResourceExhausted(fmt::format(
      "NVMe directory {}: the block store needs {}, {} are free, {} are missing: free that much or "
      "name another directory",
      file_system.directory, FormatBytes(file_system.more_bytes), FormatBytes(free_bytes),
      FormatBytes(file_system.more_bytes - free_bytes)));
}

void WarnOfTmpfs(const std::string& directory) {
  struct statfs about = {};
  if (statfs(directory.c_str(), &about) != 0 || about.f_type != TMPFS_MAGIC) return;
  Log(Severity::kWarning, "tiering",
      "NVMe directory {} is on tmpfs: its blocks take host memory beyond the budgets, and a reboot "
      "loses them",
      directory);
}

// Not made here: what is to lie on a drive must not land beside a mount that is missing.
Status NotReached(int error_number, const std::string& directory, const std::string& what) {
  if (error_number != ENOENT) return ErrnoStatus(error_number, what);
  return NotFound(
      fmt::format("{}: no such directory: mount its drive, or mkdir -p {}", what, directory));
}

}  // namespace

Status CheckDirectories(const StorePaths& paths) {
  for (const std::string& directory : paths.directories()) {
    std::string what = fmt::format("NVMe directory {}", directory);
    struct stat about = {};
    if (stat(directory.c_str(), &about) != 0) return NotReached(errno, directory, what);
    if (!S_ISDIR(about.st_mode)) return ErrnoStatus(ENOTDIR, what);
    WarnOfTmpfs(directory);
  }
  return OkStatus();
}

Status CheckFreeSpace(const StorePaths& paths, const std::vector<uint64_t>& more_bytes) {
  std::map<dev_t, FileSystem> file_systems;
  for (size_t i = 0; i < more_bytes.size(); ++i) {
    struct stat about = {};
    if (stat(paths.directories()[i].c_str(), &about) != 0)
      return ErrnoStatus(errno, fmt::format("stat {}", paths.directories()[i]));
    FileSystem& file_system = file_systems[about.st_dev];
    if (file_system.directory.empty()) file_system.directory = paths.directories()[i];
    file_system.more_bytes += more_bytes[i];
  }
  for (const auto& [device, file_system] : file_systems)
    STRATA_RETURN_IF_ERROR(CheckFreeSpaceOn(file_system));
  return OkStatus();
}

Status CheckDirectIo(const std::string& path, uint64_t offset_alignment_bytes,
                     uint64_t memory_alignment_bytes) {
  uint64_t needed_bytes = std::max(offset_alignment_bytes, memory_alignment_bytes);
  if (needed_bytes <= kSlotAlignmentBytes) return OkStatus();
  return Unimplemented(fmt::format(
      "{}: its file system wants direct I/O at multiples of {} bytes, blocks lie at multiples of "
      "{}: name an NVMe directory on another file system",
      path, needed_bytes, kSlotAlignmentBytes));
}

Result<std::vector<aio::File>> OpenBlockFiles(const StorePaths& paths, aio::FileAccess access,
                                              aio::FileCreate create) {
  std::vector<aio::File> files;
  for (size_t i = 0; i < paths.directories().size(); ++i) {
    STRATA_ASSIGN_OR_RETURN(aio::File file,
                            aio::File::Open(paths.Blocks(i), {.access = access, .create = create}));
    STRATA_RETURN_IF_ERROR(
        CheckDirectIo(file.path(), file.offset_alignment_bytes(), file.memory_alignment_bytes()));
    files.push_back(std::move(file));
  }
  return files;
}

Status GrowBlockFiles(const StorePaths& paths, std::vector<aio::File>& files,
                      const std::vector<uint64_t>& size_bytes, aio::IoEngine* engine,
                      const InitialiseProgress& progress) {
  std::vector<uint64_t> old_bytes, more_bytes;
  for (size_t i = 0; i < files.size(); ++i) {
    STRATA_ASSIGN_OR_RETURN(uint64_t old, files[i].SizeBytes());
    old_bytes.push_back(old / kSlotAlignmentBytes * kSlotAlignmentBytes);
    more_bytes.push_back(size_bytes[i] - std::min(size_bytes[i], old));
  }
  STRATA_RETURN_IF_ERROR(CheckFreeSpace(paths, more_bytes));
  for (size_t i = 0; i < files.size(); ++i)
    if (more_bytes[i] > 0) STRATA_RETURN_IF_ERROR(files[i].Preallocate(size_bytes[i]));
  STRATA_RETURN_IF_ERROR(
      WriteZeros(files, ChunksOf(old_bytes, size_bytes), engine, progress).With("initialising"));
  for (size_t i = 0; i < files.size(); ++i)
    if (more_bytes[i] > 0) STRATA_RETURN_IF_ERROR(files[i].SyncData());
  return OkStatus();
}

}  // namespace strata::tiering
