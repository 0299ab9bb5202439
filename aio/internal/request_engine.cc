#include "aio/internal/request_engine.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/check.h"

namespace strata::aio {
namespace {

constexpr uint64_t kMaxBlockBytes = 1_GiB;  // one call moves at most 2 GiB - 4 KiB
constexpr uint32_t kMaxQueueDepth = 4096;
constexpr uint32_t kMaxThreads = 256;

bool IsMultiple(uint64_t value, uint64_t of) { return value % of == 0; }

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
  return OkStatus();
}

RequestEngine::RequestEngine(const IoEngineOptions& options) : options_(options) {
  STRATA_CHECK(IsMultiple(reinterpret_cast<uintptr_t>(options.registered_memory.data()), 4_KiB));
  STRATA_CHECK(IsMultiple(options.registered_memory.size(), 4_KiB));
}

IoTicket RequestEngine::StartRead(const File& file, uint64_t offset_bytes,
                                  std::span<std::byte> into, IoDone done) {
  return Start(file, {IoDirection::kRead, file.fd(), offset_bytes, into.data(), into.size()},
               std::move(done));
}

IoTicket RequestEngine::StartWrite(const File& file, uint64_t offset_bytes,
                                   std::span<const std::byte> from, IoDone done) {
  // A transfer has one pointer for both directions; that of a write is only read through.
  std::byte* memory = const_cast<std::byte*>(from.data());
  return Start(file, {IoDirection::kWrite, file.fd(), offset_bytes, memory, from.size()},
               std::move(done));
}

IoTicket RequestEngine::Start(const File& file, const IoTransfer& transfer, IoDone done) {
  STRATA_CHECK(transfer.length_bytes > 0);
  STRATA_CHECK(IsMultiple(transfer.offset_bytes, file.offset_alignment_bytes()));
  STRATA_CHECK(IsMultiple(transfer.length_bytes, file.offset_alignment_bytes()));
  STRATA_CHECK(
      IsMultiple(reinterpret_cast<uintptr_t>(transfer.memory), file.memory_alignment_bytes()));
  auto request = std::make_shared<IoRequest>(IoRequestOptions{
      .transfer = transfer,
      .path = file.path(),
      .alignment_bytes = std::max(file.offset_alignment_bytes(), file.memory_alignment_bytes()),
      .block_size_bytes = options_.block_size_bytes,
      .chunks = MemoryChunks(options_.registered_memory),
      .done = std::move(done)});
  ++requests_;
  Enqueue(request);
  return IoTicket(std::move(request));
}

IoPiece::Next RequestEngine::OnResult(IoPiece& piece, int64_t result) {
  Count(piece.transfer(), result);
  IoPiece::Next next = piece.OnResult(result);
  if (next == IoPiece::Next::kFinish) piece.request().Finish(piece.status());
  return next;
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
