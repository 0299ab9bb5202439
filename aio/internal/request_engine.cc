#include "aio/internal/request_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/log.h"

namespace strata::aio {
namespace {

constexpr uint64_t kMaxBlockBytes = 1_GiB;  // one call moves at most 2 GiB - 4 KiB
constexpr uint32_t kMaxQueueDepth = 4096;
constexpr uint32_t kMaxThreads = 256;

bool IsMultiple(uint64_t value, uint64_t of) { return value % of == 0; }

Status CheckIoUringKnobs(const IoEngineOptions& options) {
  if (options.backend.value_or(IoBackend::kIoUring) == IoBackend::kIoUring) return OkStatus();
  for (auto [knob, is_set] : {std::pair("sqpoll", options.sqpoll), {"iopoll", options.iopoll}}) {
    if (!is_set) continue;
    return InvalidArgument(
        fmt::format("[aio] {0} = true with backend = \"{1}\", which cannot: set backend = "
                    "\"io_uring\" or {0} = "
                    "false",
                    knob, IoBackendName(*options.backend)));
  }
  return OkStatus();
}

}  // namespace

Status CheckOptions(const IoEngineOptions& options) {
  uint64_t block_bytes = options.block_size_bytes;
  if (block_bytes == 0 || !IsMultiple(block_bytes, 4_KiB) || block_bytes > kMaxBlockBytes) {
    return InvalidArgument(
        fmt::format("[aio] block_size = {} bytes: set a multiple of 4KiB up to 1GiB", block_bytes));
  }
  if (options.queue_depth == 0 || options.queue_depth > kMaxQueueDepth) {
    return InvalidArgument(
        fmt::format("[aio] queue_depth = {}: set 1 to {}", options.queue_depth, kMaxQueueDepth));
  }
  if (options.thread_count == 0 || options.thread_count > kMaxThreads) {
    return InvalidArgument(
        fmt::format("[aio] thread_count = {}: set 1 to {}", options.thread_count, kMaxThreads));
  }
  return CheckIoUringKnobs(options);
}

RequestEngine::RequestEngine(const IoEngineOptions& options) : options_(options) {
  STRATA_CHECK(IsMultiple(reinterpret_cast<uintptr_t>(options.registered_memory.data()), 4_KiB));
  STRATA_CHECK(IsMultiple(options.registered_memory.size(), 4_KiB));
}

// Kernel queues of one engine mostly have the same to say.
void RequestEngine::TakeNote(const std::string& note) {
  if (std::find(notes_.begin(), notes_.end(), note) != notes_.end()) return;
  notes_.push_back(note);
  if (note.starts_with("not registered")) Log(Severity::kWarning, "aio", "{}", note);
}

namespace {

// A request has one pointer for both directions; that of a write is only read through.
IoSegment SegmentOf(const File* file, uint64_t offset_bytes, std::span<const std::byte> memory) {
  STRATA_CHECK(file != nullptr);
  IoSegment segment = {.file = file,
                       .path = file->shared_path(),
                       .fd = file->fd(),
                       .offset_bytes = offset_bytes,
                       .memory = const_cast<std::byte*>(memory.data()),
                       .length_bytes = memory.size(),
                       .offset_alignment_bytes = file->offset_alignment_bytes(),
                       .memory_alignment_bytes = file->memory_alignment_bytes()};
  STRATA_CHECK(IsMultiple(offset_bytes, segment.offset_alignment_bytes));
  STRATA_CHECK(
      IsMultiple(reinterpret_cast<uintptr_t>(segment.memory), segment.memory_alignment_bytes));
  return segment;
}

// Opens what the last bytes of a write need that make no whole block.
Status PrepareTails(std::vector<IoSegment>& segments) {
  for (IoSegment& segment : segments) {
    if (IsMultiple(segment.length_bytes, segment.offset_alignment_bytes)) continue;
    STRATA_ASSIGN_OR_RETURN(segment.tail_fd, segment.file->BufferedFd());
  }
  return OkStatus();
}

}  // namespace

IoTicket RequestEngine::StartReads(std::span<const ReadRange> ranges, RequestOptions options) {
  IoRequestOptions request = {.direction = IoDirection::kRead};
  request.segments.reserve(ranges.size());
  for (const ReadRange& range : ranges)
    request.segments.push_back(SegmentOf(range.file, range.offset_bytes, range.into));
  return Start(std::move(request), std::move(options));
}

IoTicket RequestEngine::StartWrites(std::span<const WriteRange> ranges, RequestOptions options) {
  IoRequestOptions request = {.direction = IoDirection::kWrite};
  request.segments.reserve(ranges.size());
  for (const WriteRange& range : ranges)
    request.segments.push_back(SegmentOf(range.file, range.offset_bytes, range.from));
  return Start(std::move(request), std::move(options));
}

IoTicket RequestEngine::Start(IoRequestOptions parts, RequestOptions options) {
  Status prepared = OkStatus();
  if (parts.direction == IoDirection::kWrite) prepared = PrepareTails(parts.segments);
  parts.block_size_bytes = options_.block_size_bytes;
  parts.chunks = MemoryChunks(options_.registered_memory);
  parts.priority = options.priority;
  parts.deadline = options.deadline;
  parts.done = std::move(options.done);
  auto request = std::make_shared<IoRequest>(std::move(parts));
  ++requests_;
  prepared.ok() ? Enqueue(request) : request->EndEarly(prepared);
  return IoTicket(std::move(request));
}

bool RequestEngine::Admit(IoPiece& piece) {
  if (!piece.status().ok()) {
    piece.request().Finish(piece.status());
    return false;
  }
  ++pieces_;
  piece.set_submitted_at(std::chrono::steady_clock::now());
  return true;
}

IoPiece::Next RequestEngine::OnResult(IoPiece& piece, int64_t result) {
  Count(piece.transfer(), result);
  IoPiece::Next next = piece.OnResult(result);
  if (next == IoPiece::Next::kRepeat) return next;
  CountLatency(piece);
  piece.request().Finish(piece.status());
  return next;
}

void RequestEngine::CountLatency(const IoPiece& piece) {
  auto latency = std::chrono::steady_clock::now() - piece.submitted_at();
  LatencyCounts& counts = latencies_[static_cast<size_t>(piece.transfer().direction)];
  counts[LatencyHistogram::BucketOf(latency)].fetch_add(1, std::memory_order_relaxed);
}

LatencyHistogram RequestEngine::latency(IoDirection direction) const {
  const LatencyCounts& counts = latencies_[static_cast<size_t>(direction)];
  LatencyHistogram histogram;
  for (size_t i = 0; i < counts.size(); ++i)
    histogram.AddTo(i, counts[i].load(std::memory_order_relaxed));
  return histogram;
}

void RequestEngine::Count(const IoTransfer& transfer, int64_t result) {
  if (result < 0) {
    if (result == -EINTR || result == -EAGAIN) ++retries_;
    return;
  }
  uint64_t moved_bytes = static_cast<uint64_t>(result);
  (transfer.direction == IoDirection::kRead ? bytes_read_ : bytes_written_) += moved_bytes;
  if (moved_bytes < transfer.length_bytes) ++short_transfers_;
}

IoCounters RequestEngine::counters() const {
  return {.bytes_read = bytes_read_,
          .bytes_written = bytes_written_,
          .requests = requests_,
          .pieces = pieces_,
          .short_transfers = short_transfers_,
          .retries = retries_};
}

}  // namespace strata::aio
