#include "aio/bench/internal/target_paths.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "aio/bench/pattern.h"

namespace strata::aio {
namespace {

Result<TargetKind> KindOf(const std::string& path, mode_t mode) {
  if (S_ISDIR(mode)) return TargetKind::kScratch;
  if (S_ISREG(mode)) return TargetKind::kFile;
  if (S_ISBLK(mode)) return TargetKind::kBlockDevice;
  return InvalidArgument(path + ": neither a directory nor a file nor a block device");
}

FileOptions HowToOpen(TargetKind kind, ExistingData existing) {
  bool is_scratch = kind == TargetKind::kScratch;
  bool writes = is_scratch || existing == ExistingData::kDestroy;
  return {.access = writes ? FileAccess::kReadWrite : FileAccess::kReadOnly,
          .create = is_scratch ? FileCreate::kUnnamed : FileCreate::kMustExist,
          .block_devices =
              kind == TargetKind::kBlockDevice ? BlockDevices::kAllow : BlockDevices::kRefuse};
}

Status MeasureCapacity(OpenedPath& path) {
  STRATA_ASSIGN_OR_RETURN(uint64_t size_bytes, path.file.SizeBytes());
  path.capacity_bytes = size_bytes / kPatternSectorBytes * kPatternSectorBytes;
  if (path.capacity_bytes > 0) return OkStatus();
  return InvalidArgument(
      fmt::format("{}: has {} bytes, too few to measure: name a larger file, or a directory, in "
                  "which a scratch file is made",
                  path.info.path, size_bytes));
}

bool IsInMemory(const File& file) {
  struct statfs info;
  return fstatfs(file.fd(), &info) == 0 &&
         (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

bool IsSparse(const OpenedPath& path) {
  struct stat info;
  return path.info.kind == TargetKind::kFile && !path.info.writable &&
         fstat(path.file.fd(), &info) == 0 &&
         static_cast<uint64_t>(info.st_blocks) * 512 < path.capacity_bytes;
}

}  // namespace

Result<OpenedPath> OpenTargetPath(const std::string& path, ExistingData existing) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  STRATA_ASSIGN_OR_RETURN(TargetKind kind, KindOf(path, info.st_mode));
  STRATA_ASSIGN_OR_RETURN(File file, File::Open(path, HowToOpen(kind, existing)));
  OpenedPath opened = {
      .info = {.path = path,
               .kind = kind,
               .direct = file.direct(),
               .writable = kind == TargetKind::kScratch || existing == ExistingData::kDestroy},
      .file = std::move(file)};
  if (kind != TargetKind::kScratch) STRATA_RETURN_IF_ERROR(MeasureCapacity(opened));
  return opened;
}

Status CheckRoom(std::span<const OpenedPath> paths, std::span<const uint64_t> needed_bytes) {
  struct Room {
    std::string path;
    uint64_t free_bytes = 0;
    uint64_t needed_bytes = 0;
  };
  std::map<dev_t, Room> rooms;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (paths[i].info.kind != TargetKind::kScratch) continue;
    struct stat info;
    struct statfs free;
    if (fstat(paths[i].file.fd(), &info) != 0 || fstatfs(paths[i].file.fd(), &free) != 0)
      return ErrnoStatus(errno, "ask for the free space of " + paths[i].info.path);
    Room& room = rooms[info.st_dev];
    room.path = paths[i].info.path;
    room.free_bytes = free.f_bavail * static_cast<uint64_t>(free.f_bsize);
    room.needed_bytes += needed_bytes[i];
  }
  for (const auto& [device, room] : rooms) {
    if (room.needed_bytes <= room.free_bytes) continue;
    return ResourceExhausted(
        fmt::format("{}: {} are free and {} are needed: free some space, or ask for less (--size)",
                    room.path, FormatBytes(room.free_bytes), FormatBytes(room.needed_bytes)));
  }
  return OkStatus();
}

std::vector<std::string> NotesOn(const OpenedPath& path) {
  std::vector<std::string> notes;
  // The node of a drive lies in memory, too.
  if (path.info.kind != TargetKind::kBlockDevice && IsInMemory(path.file)) {
    notes.push_back(path.info.path + ": a file system in memory: this measures no drive");
  } else if (!path.info.direct) {
    notes.push_back(path.info.path +
                    ": no direct I/O here: figures include the page cache, which is dropped "
                    "before reads");
  }
  if (IsSparse(path))
    notes.push_back(path.info.path + ": has holes, which read faster than any drive");
  return notes;
}

}  // namespace strata::aio
