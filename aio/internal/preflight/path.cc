#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "aio/base/status.h"
#include "aio/internal/preflight/findings.h"

namespace strata::aio {
namespace {

const Topic kPath = {"path", "path"};

Finding CannotStat(const std::string& path, int error_number) {
  std::string value = ErrnoStatus(error_number, "stat").message();
  if (error_number == ENOENT) {
    return kPath.Problem(value, "There is no such path: make the directory, or mount the drive.",
                         "mkdir -p " + Quoted(path));
  }
  return kPath.Problem(value, "This user cannot get there: each directory on the way must let it.",
                       "namei -l " + Quoted(path));
}

std::string_view KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "directory";
  if (S_ISREG(mode)) return "file";
  if (S_ISBLK(mode)) return "block device";
  return "";
}

// Never chown of what is there: it may be somebody's.
Finding NotWritable(const std::string& path, std::string_view kind, int error_number) {
  std::string value = ErrnoStatus(error_number, fmt::format("{}, not writable", kind)).message();
  if (kind == "block device") {
    return kPath.Problem(
        value,
        "root and the group disk may write to drives, in a container only to those "
        "that it was given.",
        "sudo usermod -aG disk \"$USER\"");
  }
  if (error_number == EROFS) {
    return kPath.Problem(
        value,
        "The file system is mounted read-only. After an error the kernel does that by itself: look "
        "at its log (dmesg) before the file system is made writable again.",
        fmt::format("sudo mount -o remount,rw \"$(findmnt -no TARGET -T {})\"", Quoted(path)));
  }
  if (kind == "file")
    return kPath.Problem(value, "This user may not write to it.", "ls -l " + Quoted(path));
  return kPath.Problem(value, "This user may not write here: use a directory that is this user's.",
                       "sudo install -d -o \"$(id -un)\" " + Quoted(path + "/strata"));
}

}  // namespace

std::string Quoted(const std::string& path) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=";
  bool is_plain = !path.empty() && path.find_first_not_of(kPlain) == std::string::npos;
  if (is_plain) return path;
  std::string quoted = "'";
  for (char c : path) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

Finding PathFinding(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return CannotStat(path, errno);
  std::string_view kind = KindOf(info.st_mode);
  if (kind.empty()) {
    return kPath.Problem("neither directory, file nor block device",
                         "Files cannot be made there: name a directory on the drive.");
  }
  int wanted = S_ISDIR(info.st_mode) ? W_OK | X_OK : W_OK;
  if (access(path.c_str(), wanted) != 0) return NotWritable(path, kind, errno);
  return kPath.Fine(fmt::format("{}, writable", kind));
}

}  // namespace strata::aio
