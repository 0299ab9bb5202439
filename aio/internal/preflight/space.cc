#include <fmt/format.h>
#include <sys/statvfs.h>

#include <cerrno>

#include "aio/base/units.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

const Topic kSpace = {"free_space", "free space"};
const Topic kInodes = {"free_inodes", "free inodes"};

constexpr uint64_t kFullBytes = 1_MiB;
constexpr uint64_t kLittleBytes = 1_GiB;

Finding SpaceFinding(const std::string& path, const SpaceLeft& left) {
  std::string value =
      fmt::format("{} of {}", FormatBytes(left.free_bytes), FormatBytes(left.size_bytes));
  std::string command = fmt::format("sudo du -xh --max-depth=2 {} | sort -h | tail", Quoted(path));
  if (left.free_bytes < kFullBytes) {
    return kSpace.Problem(
        value, "The file system is full for this user: make room or name another.", command);
  }
  if (left.free_bytes < kLittleBytes)
    return kSpace.Note(value,
                       "That is little: training state takes 10 to 12 bytes per parameter, "
                       "twice when it is all on NVMe.",
                       command);
  if (left.free_bytes < left.size_bytes / 20) {
    return kSpace.Note(
        value,
        "A drive that is nearly full writes slower, as it has fewer spare blocks, and "
        "its file system finds only scattered ones.",
        command);
  }
  return kSpace.Fine(value);
}

Finding InodesFinding(const std::string& path, const SpaceLeft& left) {
  // Some file systems make them as they go.
  if (left.num_inodes == 0) return kInodes.Fine("as many as there is space for");
  std::string value = fmt::format("{} of {}", left.num_free_inodes, left.num_inodes);
  if (left.num_free_inodes < 16) {
    return kInodes.Problem(
        value, "No more files can be made, however much space is left.",
        fmt::format("sudo du -x --inodes --max-depth=2 {} | sort -n | tail", Quoted(path)));
  }
  return kInodes.Fine(value);
}

}  // namespace

std::vector<Finding> SpaceFindings(const std::string& path, const SpaceLeft& left) {
  return {SpaceFinding(path, left), InodesFinding(path, left)};
}

Result<SpaceLeft> AskSpaceLeft(const std::string& path) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) return ErrnoStatus(errno, "statvfs " + path);
  // Not what is set aside for root, who had better not need it for this.
  return SpaceLeft{.free_bytes = info.f_bavail * info.f_frsize,
                   .size_bytes = info.f_blocks * info.f_frsize,
                   .num_free_inodes = info.f_favail,
                   .num_inodes = info.f_files};
}

}  // namespace strata::aio
