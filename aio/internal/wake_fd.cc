#include "aio/internal/wake_fd.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "aio/internal/retry.h"

namespace strata::aio {

Status DescriptorRefused(int error_number, std::string_view call) {
  Status status = ErrnoStatus(error_number, call);
  if (error_number != EMFILE && error_number != ENFILE) return status;
  return Status(status.code(),
                status.message() + ": raise the limit (ulimit -n) or lower [aio] thread_count");
}

Result<std::unique_ptr<WakeFd>> WakeFd::Create() {
  int fd = eventfd(0, EFD_CLOEXEC);
  if (fd < 0) return DescriptorRefused(errno, "eventfd for an I/O thread");
  return std::unique_ptr<WakeFd>(new WakeFd(fd));
}

WakeFd::~WakeFd() { STRATA_CHECK(close(fd_) == 0); }

void WakeFd::Signal() {
  uint64_t one = 1;
  ssize_t written = RetryOnEintr([&] { return write(fd_, &one, sizeof(one)); });
  STRATA_CHECK(written == sizeof(one));
}

bool WakeFd::IsSignalled() const {
  pollfd readable = {.fd = fd_, .events = POLLIN, .revents = 0};
  int count = RetryOnEintr([&] { return poll(&readable, 1, 0); });
  STRATA_CHECK(count >= 0);
  return count == 1;
}

void WakeFd::Clear() {
  uint64_t count = 0;
  ssize_t taken = RetryOnEintr([&] { return read(fd_, &count, sizeof(count)); });
  STRATA_CHECK(taken == sizeof(count));
}

}  // namespace strata::aio
