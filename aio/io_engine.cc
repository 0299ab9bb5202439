#include "aio/io_engine.h"

#include <fmt/format.h>

#include "aio/base/log.h"
#include "aio/internal/io_request.h"
#include "aio/internal/libaio_queue.h"
#include "aio/internal/posix_engine.h"
#include "aio/internal/queue_engine.h"
#include "aio/internal/request_engine.h"
#include "aio/internal/uring_queue.h"

namespace strata::aio {
namespace {

Result<std::unique_ptr<RequestEngine>> CreateBackend(IoBackend backend,
                                                     const IoEngineOptions& options) {
  switch (backend) {
    case IoBackend::kIoUring:
      return QueueEngine::Create(options, backend, [&] { return UringQueue::Create(options); });
    case IoBackend::kLibaio:
      return QueueEngine::Create(options, backend, [&] { return LibaioQueue::Create(options); });
    case IoBackend::kPosix:
      return PosixEngine::Create(options);
  }
  return Internal("no such I/O backend");
}

std::span<const IoBackend> Candidates(const IoEngineOptions& options) {
  bool needs_io_uring = options.sqpoll || options.iopoll;
  return std::span(kAllIoBackends).first(needs_io_uring ? 1 : kAllIoBackends.size());
}

// Only what the machine lacks makes it try the next: a mistake or an exhausted limit on open files
// would not get better.
Result<std::unique_ptr<IoEngine>> CreateBest(const IoEngineOptions& options) {
  std::string refusals;
  for (IoBackend backend : Candidates(options)) {
    Result<std::unique_ptr<RequestEngine>> engine = CreateBackend(backend, options);
    if (engine.status().code() == Code::kUnavailable) {
      refusals += (refusals.empty() ? "" : "; ") + engine.status().message();
      continue;
    }
    if (!engine.ok()) return engine.status();
    if (!refusals.empty()) {
      std::string note = fmt::format("using {}: {}", IoBackendName(backend), refusals);
      Log(Severity::kWarning, "aio", "{}", note);
      (*engine)->TakeNote(note);
    }
    return std::unique_ptr<IoEngine>(std::move(*engine));
  }
  return Unavailable(refusals + ", or set [aio] sqpoll and iopoll to false: others cannot");
}

}  // namespace

std::string_view IoBackendName(IoBackend backend) {
  constexpr std::array<std::string_view, kAllIoBackends.size()> kNames = {"io_uring", "libaio",
                                                                          "posix"};
  return kNames[static_cast<size_t>(backend)];
}

Result<IoBackend> ParseIoBackend(std::string_view name) {
  for (IoBackend backend : kAllIoBackends) {
    if (name == IoBackendName(backend)) return backend;
  }
  return InvalidArgument(fmt::format(
      "'{}' is not an I/O backend: choose \"io_uring\", \"libaio\" or \"posix\"", name));
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

Status IoTicket::Wait(std::chrono::milliseconds patience) {
  STRATA_CHECK(valid());
  auto now = std::chrono::steady_clock::now();
  auto until = now + patience;
  // A deadline that was reported once is not waited for again, only what it left with the kernel.
  bool has_deadline = request_->deadline() > now && request_->deadline() < until;
  std::optional<Status> end = request_->WaitUntil(has_deadline ? request_->deadline() : until);
  if (!end && has_deadline) {
    request_->EndEarly(request_->PastDeadline());
    end = request_->WaitUntil(now);  // none if the kernel has some of it
  }
  if (!end) {
    return Status(
        Code::kDeadlineExceeded,
        fmt::format("{}: not over after {} ms: {}; look at the drive and the kernel's log",
                    request_->What(0), patience.count(), request_->Progress()));
  }
  request_.reset();
  return *end;
}

void IoTicket::Cancel() {
  STRATA_CHECK(valid());
  request_->EndEarly(request_->Cancelled());
}

IoTicket IoEngine::StartRead(const File& file, uint64_t offset_bytes, std::span<std::byte> into,
                             RequestOptions options) {
  ReadRange range = {.file = &file, .offset_bytes = offset_bytes, .into = into};
  return StartReads({&range, 1}, std::move(options));
}

IoTicket IoEngine::StartWrite(const File& file, uint64_t offset_bytes,
                              std::span<const std::byte> from, RequestOptions options) {
  WriteRange range = {.file = &file, .offset_bytes = offset_bytes, .from = from};
  return StartWrites({&range, 1}, std::move(options));
}

Result<std::unique_ptr<IoEngine>> IoEngine::Create(const IoEngineOptions& options) {
  STRATA_RETURN_IF_ERROR(CheckOptions(options));
  if (!options.backend) return CreateBest(options);
  Result<std::unique_ptr<RequestEngine>> engine = CreateBackend(*options.backend, options);
  if (engine.ok()) return std::unique_ptr<IoEngine>(std::move(*engine));
  if (engine.status().code() != Code::kUnavailable) return engine.status();
  return Unavailable(engine.status().message() + ", or set [aio] backend = \"auto\"");
}

}  // namespace strata::aio
