#include "aio/io_engine.h"

#include <fmt/format.h>

#include "aio/internal/io_request.h"
#include "aio/internal/posix_engine.h"
#include "aio/internal/queue_engine.h"
#include "aio/internal/request_engine.h"
#include "aio/internal/uring_queue.h"

namespace strata::aio {

std::string_view IoBackendName(IoBackend backend) {
  return backend == IoBackend::kIoUring ? "io_uring" : "posix";
}

Result<IoBackend> ParseIoBackend(std::string_view name) {
  for (IoBackend backend : {IoBackend::kIoUring, IoBackend::kPosix}) {
    if (name == IoBackendName(backend)) return backend;
  }
  return InvalidArgument(
      fmt::format("'{}' is not an I/O backend: choose \"io_uring\" or \"posix\"", name));
}

IoTicket& IoTicket::operator=(IoTicket&& other) noexcept {
  if (this == &other) return *this;
  if (request_) request_->WaitUntilReady();
  request_ = std::move(other.request_);
  return *this;
}

IoTicket::~IoTicket() {
  if (request_) request_->WaitUntilReady();
}

bool IoTicket::ready() const {
  STRATA_CHECK(valid());
  return request_->ready();
}

Status IoTicket::Wait(std::chrono::milliseconds deadline) {
  STRATA_CHECK(valid());
  std::optional<Status> end = request_->Wait(deadline);
  if (!end) {
    return Status(
        Code::kDeadlineExceeded,
        fmt::format("{}: not over after {} ms: {}; look at the drive and the kernel's log",
                    request_->What(), deadline.count(), request_->Progress()));
  }
  request_.reset();
  return *end;
}

Result<std::unique_ptr<IoEngine>> IoEngine::Create(const IoEngineOptions& options) {
  STRATA_RETURN_IF_ERROR(CheckOptions(options));
  if (options.backend == IoBackend::kPosix) return PosixEngine::Create(options);
  return QueueEngine::Create(options, IoBackend::kIoUring,
                             [&options] { return UringQueue::Create(options); });
}

}  // namespace strata::aio
