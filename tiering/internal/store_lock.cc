#include "tiering/internal/store_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace strata::tiering {
namespace {

std::string HolderOf(int fd) {
  std::array<char, 32> text = {};
  ssize_t length = pread(fd, text.data(), text.size(), 0);
  if (length <= 0) return "a process that did not leave its pid";
  return "process " + std::string(text.data(), static_cast<size_t>(length));
}

// Advice for people: the lock itself does not depend on it.
Status WritePid(int fd, const std::string& path) {
  std::string pid = fmt::to_string(getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) < 0)
    return ErrnoStatus(errno, fmt::format("writing {}", path));
  return OkStatus();
}

// False when the file was removed, by a store that was not to be, between open and flock.
bool IsStillAt(int fd, const std::string& path) {
  struct stat opened = {}, named = {};
  return fstat(fd, &opened) == 0 && stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

}  // namespace

Result<StoreLock> StoreLock::Acquire(const std::string& path) {
  for (;;) {
    int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return ErrnoStatus(errno, fmt::format("opening {}", path));
    StoreLock lock(fd);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return ErrnoStatus(errno, fmt::format("locking {}", path));
      return FailedPrecondition(
          fmt::format("{} is held by {}: wait until it ends, end it, or give this run another id",
                      path, HolderOf(fd)));
    }
    if (!IsStillAt(fd, path)) continue;
    STRATA_RETURN_IF_ERROR(WritePid(fd, path));
    return lock;
  }
}

StoreLock::StoreLock(StoreLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

StoreLock& StoreLock::operator=(StoreLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

StoreLock::~StoreLock() {
  if (fd_ >= 0) close(fd_);  // drops the lock whatever it returns
}

}  // namespace strata::tiering
