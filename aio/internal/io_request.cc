#include "aio/internal/io_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::aio {
namespace {

// What of the page cache a write touches beside its whole blocks: the page, not the block, so that
// nothing written directly lies in it.
constexpr uint64_t kPageBytes = 4_KiB;

}  // namespace

IoRequest::IoRequest(IoRequestOptions options) : options_(std::move(options)) {
  STRATA_CHECK(!options_.segments.empty());
  for (const IoSegment& segment : options_.segments) {
    STRATA_CHECK(segment.length_bytes > 0);
    length_bytes_ += segment.length_bytes;
  }
}

std::string IoRequest::What(size_t segment) const {
  const IoSegment& range = options_.segments[segment];
  std::string what = fmt::format("{} {} offset_bytes={} length_bytes={}",
                                 direction() == IoDirection::kRead ? "read" : "write", *range.path,
                                 range.offset_bytes, range.length_bytes);
  if (options_.segments.size() == 1) return what;
  return fmt::format("{} (range {} of {})", what, segment + 1, options_.segments.size());
}

std::optional<IoPiece> IoRequest::CutPiece() {
  std::lock_guard lock(mutex_);
  if (cut_bytes_ == length_bytes_ || !failure_.ok()) return std::nullopt;
  ++pieces_out_;
  if (deadline() != SteadyTime::max() && std::chrono::steady_clock::now() >= deadline())
    return IoPiece(shared_from_this(), PastDeadline());
  return NextPieceLocked();
}

IoPiece IoRequest::NextPieceLocked() {
  const IoSegment& segment = options_.segments[segment_];
  uint64_t body_bytes = BodyBytes(segment);
  IoPiece piece = segment_cut_bytes_ < body_bytes ? CutBody(segment, body_bytes) : CutTail(segment);
  if (segment_cut_bytes_ == segment.length_bytes) {
    ++segment_;
    segment_cut_bytes_ = 0;
  }
  return piece;
}

// How much of the range moves between the drive and its memory itself.
uint64_t IoRequest::BodyBytes(const IoSegment& segment) const {
  uint64_t partial_bytes = segment.length_bytes % segment.offset_alignment_bytes;
  if (partial_bytes == 0) return segment.length_bytes;
  if (direction() == IoDirection::kRead) return segment.length_bytes - partial_bytes;
  uint64_t page_bytes = (segment.offset_bytes + segment.length_bytes) % kPageBytes;
  return segment.length_bytes - std::min(page_bytes, segment.length_bytes);
}

IoPiece IoRequest::CutBody(const IoSegment& segment, uint64_t body_bytes) {
  IoTransfer transfer = {.direction = direction(),
                         .fd = segment.fd,
                         .offset_bytes = segment.offset_bytes + segment_cut_bytes_,
                         .memory = segment.memory + segment_cut_bytes_,
                         .file = segment.file};
  transfer.length_bytes = std::min({body_bytes - segment_cut_bytes_, options_.block_size_bytes,
                                    options_.chunks.BytesToBorder(transfer.memory)});
  segment_cut_bytes_ += transfer.length_bytes;
  cut_bytes_ += transfer.length_bytes;
  return IoPiece(shared_from_this(), segment_, transfer,
                 std::max(segment.offset_alignment_bytes, segment.memory_alignment_bytes));
}

IoPiece IoRequest::CutTail(const IoSegment& segment) {
  std::span<std::byte> tail(segment.memory + segment_cut_bytes_,
                            segment.length_bytes - segment_cut_bytes_);
  IoTransfer transfer = {.direction = direction(),
                         .fd = segment.tail_fd,
                         .offset_bytes = segment.offset_bytes + segment_cut_bytes_,
                         .memory = tail.data(),
                         .length_bytes = tail.size(),
                         .durable = true,
                         .file = segment.file};
  segment_cut_bytes_ += tail.size();
  cut_bytes_ += tail.size();
  if (direction() == IoDirection::kWrite) return IoPiece(shared_from_this(), segment_, transfer, 1);
  uint64_t block_bytes = segment.offset_alignment_bytes;
  TailBlock landing(block_bytes, std::max(block_bytes, segment.memory_alignment_bytes), tail);
  transfer.fd = segment.fd;
  transfer.memory = landing.memory();
  transfer.length_bytes = block_bytes;
  transfer.durable = false;
  IoPiece piece(shared_from_this(), segment_, transfer, block_bytes);
  piece.LandIn(std::move(landing));
  return piece;
}

uint64_t IoRequest::uncut_bytes() const {
  std::lock_guard lock(mutex_);
  return failure_.ok() ? length_bytes_ - cut_bytes_ : 0;
}

void IoRequest::Finish(const Status& piece_status) {
  {
    std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = piece_status;
    --pieces_out_;
    if (!ReadyLocked()) return;
  }
  TellReady();
}

// Without the lock, which whoever wakes would have to wait for.
void IoRequest::TellReady() {
  became_ready_.notify_all();
  if (options_.done) options_.done();
}

void IoRequest::EndEarly(const Status& why) {
  {
    std::lock_guard lock(mutex_);
    if (ReadyLocked() || !failure_.ok()) return;
    failure_ = why;
    if (!ReadyLocked()) return;  // the last of the pieces that are out will say so
  }
  TellReady();
}

bool IoRequest::ReadyLocked() const {
  bool all_cut = cut_bytes_ == length_bytes_ || !failure_.ok();
  return all_cut && pieces_out_ == 0;
}

bool IoRequest::ready() const {
  std::lock_guard lock(mutex_);
  return ReadyLocked();
}

void IoRequest::WaitUntilReady() {
  std::unique_lock lock(mutex_);
  became_ready_.wait(lock, [this] { return ReadyLocked(); });
}

std::optional<Status> IoRequest::WaitUntil(SteadyTime until) {
  std::unique_lock lock(mutex_);
  if (!became_ready_.wait_until(lock, until, [this] { return ReadyLocked(); })) return std::nullopt;
  return failure_;
}

Status IoRequest::PastDeadline() const {
  return Status(Code::kDeadlineExceeded, What(0) + ": its deadline has passed");
}

Status IoRequest::Cancelled() const { return Status(Code::kCancelled, What(0) + ": cancelled"); }

std::string IoRequest::Progress() const {
  std::lock_guard lock(mutex_);
  return fmt::format("{} pieces are with the kernel, {} bytes have not been started", pieces_out_,
                     length_bytes_ - cut_bytes_);
}

}  // namespace strata::aio
