// Asynchronous direct I/O between host memory and files.
//
// Start*() lends a range of memory to the kernel and returns an IoTicket, the claim check for it.
// Until the ticket is done the memory belongs to the engine: nobody reads half-written bytes or
// frees memory that a device is still writing to. A ticket that is dropped early waits.
//
// A request is any number of ranges, each of any length; it is cut into pieces of block_size_bytes,
// of which at most queue_depth per thread are in the kernel at a time. Every completion's result is
// read; short transfers are resumed; EINTR and EAGAIN are retried with a bound; a read past the end
// of the file is kDataLoss. The first failure of a request is its status, and names path, offset,
// length and errno of the range:
//   read /nvme0/rank-0.blocks offset_bytes=4096 length_bytes=1048576: Input/output error
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/latency_histogram.h"

namespace strata::aio {

enum class IoBackend { kIoUring, kLibaio, kPosix };
inline constexpr std::array kAllIoBackends = {IoBackend::kIoUring, IoBackend::kLibaio,
                                              IoBackend::kPosix};  // best first
std::string_view IoBackendName(IoBackend backend);                 // "io_uring", "libaio", "posix"
Result<IoBackend> ParseIoBackend(std::string_view name);           // names the choices on failure

// The knobs carry DeepSpeed's names (block_size, queue_depth, thread_count, single_submit,
// overlap_events).
struct IoEngineOptions {
  // None: the first of kAllIoBackends that this process may use. A warning says why it is not the
  // best one, and what would enable that.
  std::optional<IoBackend> backend = {};
  uint64_t block_size_bytes = 1 << 20;  // a multiple of 4096
  uint32_t queue_depth = 16;            // pieces in flight per thread
  uint32_t thread_count = 1;            // kernel queues, or groups of posix workers
  bool single_submit = false;           // one system call per piece instead of one per batch
  bool overlap_events = true;           // refill as pieces complete, not wave by wave
  // io_uring only. A kernel thread per ring looks for submissions and saves the system call for
  // each batch. It takes a whole core until it has had nothing to do for 50 ms.
  bool sqpoll = false;
  // io_uring only. The drive is asked for completions instead of interrupting: lower latency for a
  // core that spins while anything is in flight. Only for drives with poll queues, and not through
  // the page cache: other requests fail as kUnavailable.
  bool iopoll = false;
  // io_uring only, others ignore it. Saves looking up the file for each piece; a file that is
  // closed while the engine has other work stays open until it is idle. Measured with 4 KiB from
  // the page cache: 1 % less CPU time while it is never idle, 3 % more when it always is.
  bool registered_files = false;
  // Memory that most requests lie in (the host arena): registered with the kernel once, in chunks
  // of at most 1 GiB. Starts and ends at multiples of 4096 (CHECKed). Must outlive the engine.
  // Where the limit on locked memory forbids it, the engine says so once and works without.
  std::span<std::byte> registered_memory = {};
};

enum class IoDirection { kRead, kWrite };

// Which pieces go to the kernel first. Pieces of a lower priority wait as long as there are any of
// a higher one; those the kernel has are not called back.
enum class IoPriority {
  kUrgent,      // somebody waits for it: a read that the step needs now
  kNormal,      // read-ahead, write-back
  kBackground,  // whenever there is room: checkpoints
};

// A run of bytes of a file and the memory it goes into, or comes from. The offset is a multiple of
// the file's offset_alignment_bytes() and the memory starts at one of memory_alignment_bytes()
// (CHECKed). The length is free, but whole blocks are faster:
// - What a read needs of the last block is copied out of a buffer of the engine's own.
// - What a write has of the last page goes through the page cache and is on the drive (RWF_DSYNC)
//   when the request is done; the bytes after it stay as they are, a file that ended earlier ends
//   there. Until then that page is the request's: no other write may touch it.
struct ReadRange {
  const File* file = nullptr;
  uint64_t offset_bytes = 0;
  std::span<std::byte> into = {};
};
struct WriteRange {
  const File* file = nullptr;
  uint64_t offset_bytes = 0;
  std::span<const std::byte> from = {};
};

// Called once, right after the ticket became ready, on an engine thread or in the call that
// cancels. Must not block for long and must not call into the engine.
using IoDone = std::function<void()>;

struct RequestOptions {
  IoPriority priority = IoPriority::kNormal;
  // From then on no piece of the request is started, and it ends as kDeadlineExceeded.
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  IoDone done = {};
};

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
  // appears; the ticket is spent. After `patience`, or when the request's own deadline passes:
  // kDeadlineExceeded, naming what is outstanding. If that is with the kernel, the ticket stays
  // valid and the memory lent: a drive cannot be told to keep its hands off.
  Status Wait(std::chrono::milliseconds patience = std::chrono::minutes(2));
  // Starts no further piece. The request ends as kCancelled, unless it is over already, when the
  // kernel has given back what it has. Does not block.
  void Cancel();

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
  // kUnavailable when the kernel refuses the backend that was asked for by name; the message says
  // which call, and what to set ([aio] backend = "auto") or enable.
  static Result<std::unique_ptr<IoEngine>> Create(const IoEngineOptions& options);
  virtual ~IoEngine() = default;

  // All ranges as one request; at least one, of at least one byte each (CHECKed). They are started
  // in their order and overlap nowhere. Files and memory outlive the ticket; `ranges` need not.
  virtual IoTicket StartReads(std::span<const ReadRange> ranges, RequestOptions options = {}) = 0;
  virtual IoTicket StartWrites(std::span<const WriteRange> ranges, RequestOptions options = {}) = 0;

  IoTicket StartRead(const File& file, uint64_t offset_bytes, std::span<std::byte> into,
                     RequestOptions options = {});
  IoTicket StartWrite(const File& file, uint64_t offset_bytes, std::span<const std::byte> from,
                      RequestOptions options = {});

  virtual IoCounters counters() const = 0;
  // Of each piece, from its submission until its completion was seen; since Create.
  virtual LatencyHistogram latency(IoDirection direction) const = 0;
  virtual IoBackend backend() const = 0;
  // What the kernel offered and what was worked around, one clause each:
  // "registered 1.00 GiB in 1 chunk", "no DEFER_TASKRUN (kernel 5.15)".
  virtual std::vector<std::string> notes() const = 0;
};

}  // namespace strata::aio
