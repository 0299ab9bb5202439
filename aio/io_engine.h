// Asynchronous direct I/O between host memory and files.
//
// Start*() lends a range of memory to the kernel and returns an IoTicket, the claim check for it.
// Until the ticket is done the memory belongs to the engine: nobody reads half-written bytes or
// frees memory that a device is still writing to. A ticket that is dropped early waits.
//
// A request may be any multiple of the file's alignment long; it is cut into pieces of
// block_size_bytes, of which at most queue_depth per thread are in the kernel at a time. Every
// completion's result is read; short transfers are resumed; EINTR and EAGAIN are retried with a
// bound; a read past the end of the file is kDataLoss. The first failure of a request is its
// status, and names path, offset, length and errno:
//   read /nvme0/rank-0.blocks offset_bytes=4096 length_bytes=1048576: Input/output error
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "aio/base/units.h"
#include "aio/file.h"

namespace strata::aio {

enum class IoBackend { kIoUring, kPosix };
std::string_view IoBackendName(IoBackend backend);        // "io_uring", "posix"
Result<IoBackend> ParseIoBackend(std::string_view name);  // names the choices on failure

// The knobs carry DeepSpeed's names (block_size, queue_depth, thread_count, single_submit,
// overlap_events).
struct IoEngineOptions {
  IoBackend backend = IoBackend::kIoUring;
  uint64_t block_size_bytes = 1 << 20;  // a multiple of 4096
  uint32_t queue_depth = 16;            // pieces in flight per thread
  uint32_t thread_count = 1;            // rings, or groups of posix workers
  bool single_submit = false;           // one system call per piece instead of one per batch
  bool overlap_events = true;           // refill as pieces complete, not wave by wave
  // Memory that most requests lie in (the host arena): registered with the kernel once, in chunks
  // of at most 1 GiB. Starts and ends at multiples of 4096 (CHECKed). Must outlive the engine.
  // Where the limit on locked memory forbids it, the engine says so once and works without.
  std::span<std::byte> registered_memory = {};
};

// Called once, on an engine thread, right after the ticket became ready. Must not block for long
// and must not call into the engine.
using IoDone = std::function<void()>;

class IoRequest;  // internal/io_request.h

// The claim check of one request. Move-only. Its engine outlives it.
class IoTicket {
 public:
  IoTicket() = default;
  explicit IoTicket(std::shared_ptr<IoRequest> request) : request_(std::move(request)) {}
  IoTicket(IoTicket&&) noexcept = default;
  IoTicket& operator=(IoTicket&& other) noexcept;
  ~IoTicket();  // waits for the request, then drops its result

  bool valid() const { return request_ != nullptr; }
  // True once Wait() would not block.
  bool ready() const;
  // Blocks until the request is over and returns how it ended. The one place where its failure
  // appears; the ticket is spent. After `deadline` without an end: kDeadlineExceeded, naming what
  // is outstanding; the ticket stays valid and the memory stays lent.
  Status Wait(std::chrono::milliseconds deadline = std::chrono::minutes(2));

 private:
  // Shared with the engine thread that completes it: both sides must be able to go first.
  std::shared_ptr<IoRequest> request_;
};

struct IoCounters {
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t requests = 0;
  uint64_t pieces = 0;
  uint64_t short_transfers = 0;
  uint64_t retries = 0;
};

// Thread-safe. Outlives its tickets; its destructor waits for what is in flight.
class IoEngine {
 public:
  // kUnavailable when the kernel refuses the backend; the message says which call, and what to set
  // ([aio] backend = "posix") or enable.
  static Result<std::unique_ptr<IoEngine>> Create(const IoEngineOptions& options);
  virtual ~IoEngine() = default;

  // `file` and the memory outlive the ticket. offset, length and address are multiples of the
  // file's alignment, and there is at least one byte (CHECKed).
  virtual IoTicket StartRead(const File& file, uint64_t offset_bytes, std::span<std::byte> into,
                             IoDone done = {}) = 0;
  virtual IoTicket StartWrite(const File& file, uint64_t offset_bytes,
                              std::span<const std::byte> from, IoDone done = {}) = 0;

  virtual IoCounters counters() const = 0;
  virtual IoBackend backend() const = 0;
  // What the kernel offered and what was worked around, one clause each:
  // "registered 1.00 GiB in 1 chunk", "no DEFER_TASKRUN (kernel 5.15)".
  virtual std::vector<std::string> notes() const = 0;
};

}  // namespace strata::aio
