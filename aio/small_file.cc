// Small files: read whole, written whole or not at all.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "aio/base/log.h"
#include "aio/file.h"
#include "aio/internal/retry.h"

namespace strata::aio {
namespace {

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    // Reached with an open descriptor only after a read or after another failure.
    if (fd_ >= 0) static_cast<void>(close(fd_));
  }
  int get() const { return fd_; }
  int Close() {
    int fd = fd_;
    fd_ = -1;
    return close(fd);
  }

 private:
  int fd_;
};

Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    ssize_t written = RetryOnEintr([&] { return write(fd, content.data(), content.size()); });
    if (written <= 0) return ErrnoStatus(written < 0 ? errno : EIO, "write " + path);
    content.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

Status WriteAndSync(const std::string& path, std::string_view content) {
  Descriptor file(RetryOnEintr(
      [&] { return open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644); }));
  if (file.get() < 0) return ErrnoStatus(errno, "create " + path);
  STRATA_RETURN_IF_ERROR(WriteAll(file.get(), content, path));
  if (RetryOnEintr([&] { return fsync(file.get()); }) != 0)
    return ErrnoStatus(errno, "fsync " + path);
  if (file.Close() != 0) return ErrnoStatus(errno, "close " + path);
  return OkStatus();
}

Status SyncDirectoryOf(const std::string& path) {
  size_t slash = path.rfind('/');
  std::string directory =
      slash == std::string::npos ? std::string(1, '.') : path.substr(0, slash + 1);
  Descriptor handle(
      RetryOnEintr([&] { return open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (handle.get() < 0) return ErrnoStatus(errno, "open directory " + directory);
  if (RetryOnEintr([&] { return fsync(handle.get()); }) != 0)
    return ErrnoStatus(errno, "fsync directory " + directory);
  return OkStatus();
}

Status WriteBesideAndRename(const std::string& beside, const std::string& path,
                            std::string_view content) {
  STRATA_RETURN_IF_ERROR(WriteAndSync(beside, content));
  if (rename(beside.c_str(), path.c_str()) != 0)
    return ErrnoStatus(errno, "rename " + beside + " to " + path);
  return OkStatus();
}

}  // namespace

Status WriteFileAtomically(const std::string& path, std::string_view content) {
  // Always the same name, so that what a killed process left behind is overwritten.
  std::string beside = path + ".tmp";
  Status status = WriteBesideAndRename(beside, path, content);
  if (!status.ok()) {
    if (unlink(beside.c_str()) != 0 && errno != ENOENT && errno != EROFS)
      Log(Severity::kWarning, "aio", "cannot remove {}", beside);
    return status;
  }
  return SyncDirectoryOf(path);
}

Result<std::string> ReadSmallFile(const std::string& path, uint64_t limit_bytes) {
  Descriptor file(RetryOnEintr([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (file.get() < 0) return ErrnoStatus(errno, "open " + path);
  std::string content;
  char part[1 << 14];
  while (true) {
    ssize_t length = RetryOnEintr([&] { return read(file.get(), part, sizeof(part)); });
    if (length < 0) return ErrnoStatus(errno, "read " + path);
    if (length == 0) return content;
    content.append(part, static_cast<size_t>(length));
    if (content.size() > limit_bytes) {
      return InvalidArgument(
          fmt::format("read {}: larger than the {} bytes expected of it", path, limit_bytes));
    }
  }
}

}  // namespace strata::aio
