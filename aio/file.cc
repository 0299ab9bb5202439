#include "aio/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/internal/block_device.h"
#include "aio/internal/direct_io.h"
#include "aio/internal/retry.h"

namespace strata::aio {
namespace {

void LogOncePerFileSystem(dev_t device, const std::string& path) {
  static std::mutex mutex;
  static std::set<dev_t> said;
  std::lock_guard lock(mutex);
  if (!said.insert(device).second) return;
  Log(Severity::kWarning, "aio",
      "the file system of {} has no direct I/O: its files go through the page cache", path);
}

int OpenFlags(const FileOptions& options, bool is_block_device) {
  int flags = O_CLOEXEC | (options.access == FileAccess::kReadOnly ? O_RDONLY : O_RDWR);
  // For a device, and without O_CREAT, O_EXCL claims it.
  if (is_block_device && options.create != FileCreate::kCreateNew)
    return options.access == FileAccess::kReadWrite ? flags | O_EXCL : flags;
  if (options.create == FileCreate::kCreateNew) flags |= O_CREAT | O_EXCL;
  if (options.create == FileCreate::kUnnamed)
    flags |= O_TMPFILE | O_EXCL;  // not to be linked later
  if (options.create == FileCreate::kCreateOrOpen) flags |= O_CREAT;
  return flags;
}

Result<struct stat> Stat(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, "stat " + path);
  return info;
}

// Through the page cache: the zeros need not fit the alignment of direct I/O.
Status WriteZeros(const File& file, uint64_t begin_bytes, uint64_t end_bytes) {
  STRATA_ASSIGN_OR_RETURN(int fd, file.BufferedFd());
  const std::vector<char> zeros(1_MiB);
  while (begin_bytes < end_bytes) {
    size_t length_bytes = std::min<uint64_t>(zeros.size(), end_bytes - begin_bytes);
    ssize_t written = RetryOnEintr(
        [&] { return pwrite(fd, zeros.data(), length_bytes, static_cast<off_t>(begin_bytes)); });
    if (written < 0) {
      return ErrnoStatus(errno, fmt::format("write zeros {} offset_bytes={} length_bytes={}",
                                            file.path(), begin_bytes, length_bytes));
    }
    begin_bytes += static_cast<uint64_t>(written);
  }
  if (RetryOnEintr([&] { return fdatasync(fd); }) != 0)
    return ErrnoStatus(errno, "fdatasync " + file.path());
  return OkStatus();
}

// For file systems without unnamed files: a name for as short a time as can be. Returns -1 and
// errno, like open.
int OpenAndUnlink(const std::string& directory, int flags) {
  std::string path = directory + "/.strata-XXXXXX";
  int fd = mkostemp(path.data(), flags & O_CLOEXEC);
  if (fd < 0) return fd;
  if (unlink(path.c_str()) == 0) return fd;
  int error_number = errno;
  close(fd);
  errno = error_number;
  return -1;
}

int OpenRetrying(const std::string& path, const FileOptions& options, int flags) {
  int fd = RetryOnEintr([&] { return open(path.c_str(), flags, 0644); });
  if (options.create != FileCreate::kUnnamed || fd >= 0) return fd;
  return errno == EOPNOTSUPP ? OpenAndUnlink(path, flags) : fd;
}

}  // namespace

// What changes after Open.
struct File::State {
  std::mutex mutex;
  int buffered_fd = -1;
  std::mutex sync_mutex;  // held for long
  Status sync_failure;
};

File::File(int fd, const std::string& path)
    : fd_(fd),
      path_(std::make_shared<const std::string>(path)),
      state_(std::make_unique<State>()) {}

// By way of the descriptor: the path may name another file by now.
Result<int> File::BufferedFd() const {
  if (!direct_) return fd_;
  std::lock_guard lock(state_->mutex);
  if (state_->buffered_fd >= 0) return state_->buffered_fd;
  int flags = fcntl(fd_, F_GETFL);
  std::string self = fmt::format("/proc/self/fd/{}", fd_);
  int fd = RetryOnEintr([&] { return open(self.c_str(), (flags & O_ACCMODE) | O_CLOEXEC); });
  if (fd < 0) return ErrnoStatus(errno, "open " + path() + " for bytes beside whole blocks");
  return state_->buffered_fd = fd;
}

Result<File> File::Open(const std::string& path, const FileOptions& options) {
  bool claims = options.block_devices == BlockDevices::kAllow && IsBlockDevice(path);
  int fd = OpenRetrying(path, options, OpenFlags(options, claims));
  if (fd < 0 && claims && errno == EBUSY) return BlockDeviceInUse(path);
  bool is_unnamed = options.create == FileCreate::kUnnamed;
  if (fd < 0) return ErrnoStatus(errno, (is_unnamed ? "make a file in " : "open ") + path);
  File file(fd, is_unnamed ? path + "/(unnamed)" : path);
  STRATA_ASSIGN_OR_RETURN(struct stat info, Stat(fd, path));
  if (!S_ISREG(info.st_mode) && !(claims && S_ISBLK(info.st_mode)))
    return InvalidArgument("open " + path + ": not a regular file");
  if (options.direct && !file.TryDirect()) LogOncePerFileSystem(info.st_dev, path);
  return file;
}

// Not by opening with O_DIRECT: a file system that refuses it may have created the file by then.
bool File::TryDirect() {
  DirectIoAlignment alignment = AskDirectIoAlignment(fd_);
  if (alignment.offset_bytes == 0 || alignment.memory_bytes == 0) return false;
  int flags = fcntl(fd_, F_GETFL);
  if (flags < 0 || fcntl(fd_, F_SETFL, flags | O_DIRECT) != 0) return false;
  direct_ = true;
  offset_alignment_bytes_ = alignment.offset_bytes;
  memory_alignment_bytes_ = alignment.memory_bytes;
  return true;
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      state_(std::move(other.state_)),
      direct_(other.direct_),
      offset_alignment_bytes_(other.offset_alignment_bytes_),
      memory_alignment_bytes_(other.memory_alignment_bytes_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);  // other closes ours
  std::swap(path_, other.path_);
  std::swap(state_, other.state_);
  direct_ = other.direct_;
  offset_alignment_bytes_ = other.offset_alignment_bytes_;
  memory_alignment_bytes_ = other.memory_alignment_bytes_;
  return *this;
}

File::~File() {
  // The descriptor is gone even when close fails; an error here is one of writes nobody synced.
  for (int fd : {fd_, state_ ? state_->buffered_fd : -1}) {
    if (fd >= 0 && close(fd) != 0)
      Log(Severity::kWarning, "aio", "close {}: {}", *path_, std::strerror(errno));
  }
}

Result<uint64_t> File::SizeBytes() const {
  STRATA_ASSIGN_OR_RETURN(struct stat info, Stat(fd_, path()));
  if (S_ISBLK(info.st_mode)) return BlockDeviceBytes(fd_, path());
  return static_cast<uint64_t>(info.st_size);
}

Status File::Preallocate(uint64_t size_bytes) {
  STRATA_ASSIGN_OR_RETURN(uint64_t old_size_bytes, SizeBytes());
  std::string what = fmt::format("preallocate {} size_bytes={}", path(), size_bytes);
  if (IsBlockDevice(fd_)) {
    return size_bytes <= old_size_bytes ? OkStatus()
                                        : ResourceExhausted(fmt::format(
                                              "{}: the device has {} bytes", what, old_size_bytes));
  }
  off_t size = static_cast<off_t>(size_bytes);
  if (size_bytes < old_size_bytes && RetryOnEintr([&] { return ftruncate(fd_, size); }) != 0)
    return ErrnoStatus(errno, what);
  if (size_bytes == 0) return OkStatus();
  if (RetryOnEintr([&] { return fallocate(fd_, 0, 0, size); }) == 0) return OkStatus();
  if (errno != EOPNOTSUPP) return ErrnoStatus(errno, what);
  return WriteZeros(*this, old_size_bytes, size_bytes).With(what);
}

Status File::SyncData() {
  std::lock_guard lock(state_->sync_mutex);
  if (!state_->sync_failure.ok()) return state_->sync_failure;
  if (RetryOnEintr([&] { return fdatasync(fd_); }) != 0)
    state_->sync_failure = ErrnoStatus(errno, "fdatasync " + path());
  return state_->sync_failure;
}

}  // namespace strata::aio
