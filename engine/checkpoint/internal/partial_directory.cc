#include "engine/checkpoint/internal/partial_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "aio/base/log.h"

namespace strata::engine {
namespace {

namespace fs = std::filesystem;

Status CheckFree(const std::string& path) {
  std::error_code error;
  fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return OkStatus();
  if (error) return ErrnoStatus(error.value(), "stat " + path);
  bool is_empty_directory = fs::is_directory(status) && fs::is_empty(path, error);
  if (error) return ErrnoStatus(error.value(), "list " + path);
  if (is_empty_directory) return OkStatus();
  return Status(Code::kAlreadyExists,
                fmt::format("{} exists{}: name another directory, or remove it first", path,
                            fs::is_directory(status) ? " and is not empty" : ""));
}

}  // namespace

Status SyncDirectory(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open directory " + path);
  int sync_error = fsync(fd) == 0 ? 0 : errno;
  int close_error = close(fd) == 0 ? 0 : errno;
  if (sync_error != 0) return ErrnoStatus(sync_error, "fsync directory " + path);
  if (close_error != 0) return ErrnoStatus(close_error, "close directory " + path);
  return OkStatus();
}

Result<PartialDirectory> PartialDirectory::Create(const std::string& final_path) {
  std::string trimmed = final_path.substr(0, final_path.find_last_not_of('/') + 1);
  if (trimmed.empty())
    return InvalidArgument(fmt::format("'{}' is not a directory to write to", final_path));
  STRATA_RETURN_IF_ERROR(CheckFree(trimmed));
  std::string path = fmt::format("{}.partial-{}", trimmed, getpid());
  if (mkdir(path.c_str(), 0777) == 0) return PartialDirectory(std::move(trimmed), std::move(path));
  if (errno == EEXIST)
    return Status(Code::kAlreadyExists,
                  path + " is there, left behind by a process that was killed: remove it");
  if (errno == ENOENT)
    return NotFound(
        fmt::format("the directory that {} is to be in does not exist: create it first", trimmed));
  return ErrnoStatus(errno, "create directory " + path);
}

PartialDirectory::~PartialDirectory() {
  if (path_.empty()) return;
  std::error_code error;
  fs::remove_all(path_, error);
  if (error)
    Log(Severity::kWarning, "checkpoint", "could not remove {}: {}", path_, error.message());
}

Status PartialDirectory::Publish() && {
  STRATA_RETURN_IF_ERROR(SyncDirectory(path_));
  // Atomic, and refused by the kernel if something has come to stand there meanwhile.
  if (rename(path_.c_str(), final_path_.c_str()) != 0)
    return ErrnoStatus(errno, fmt::format("rename {} to {}", path_, final_path_));
  path_.clear();
  fs::path parent = fs::path(final_path_).parent_path();
  return SyncDirectory(parent.empty() ? "." : parent.string());
}

}  // namespace strata::engine
