#include "aio/internal/io_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "aio/base/check.h"
#include "aio/internal/retry.h"

namespace strata::aio {
namespace {

// A drive that timed out is a drive that failed: kDeadlineExceeded is kept for our own deadlines,
// after which the request goes on.
Status FailureOf(int error_number, const std::string& what) {
  Status status = ErrnoStatus(error_number, what);
  if (error_number == ETIMEDOUT) return Status(Code::kIoError, status.message());
  return status;
}

}  // namespace

IoPiece::Next IoPiece::OnResult(int64_t result) {
  int error_number = result < 0 ? static_cast<int>(-result) : 0;
  if (error_number == EINTR || error_number == EAGAIN) return RepeatOr(error_number);
  if (error_number != 0) return Fail(error_number);
  bool is_read = transfer_.direction == IoDirection::kRead;
  if (result == 0 && is_read) return FailAtEndOfFile(transfer_.offset_bytes);
  if (result == 0) return Fail(EIO);
  uint64_t moved_bytes = static_cast<uint64_t>(result);
  STRATA_CHECK(moved_bytes <= transfer_.length_bytes);
  if (moved_bytes == transfer_.length_bytes) return Next::kFinish;
  return OnShortTransfer(moved_bytes);
}

// The next transfer starts where this one stopped, or at the last aligned place before. A read that
// stops twice at the same place in between has found the end of the file: the kernel returns 0
// there only to an aligned read.
IoPiece::Next IoPiece::OnShortTransfer(uint64_t moved_bytes) {
  uint64_t stop_bytes = transfer_.offset_bytes + moved_bytes;
  bool is_read = transfer_.direction == IoDirection::kRead;
  if (is_read && stop_bytes == last_stop_bytes_) return FailAtEndOfFile(stop_bytes);
  last_stop_bytes_ = stop_bytes;
  uint64_t progress_bytes = moved_bytes / alignment_bytes_ * alignment_bytes_;
  if (progress_bytes == 0) return RepeatOr(EIO);
  transfer_.offset_bytes += progress_bytes;
  transfer_.memory += progress_bytes;
  transfer_.length_bytes -= progress_bytes;
  repeats_ = 0;
  return Next::kRepeat;
}

IoPiece::Next IoPiece::RepeatOr(int error_number) {
  return repeats_++ < kMaxRetries ? Next::kRepeat : Fail(error_number);
}

IoPiece::Next IoPiece::Fail(int error_number) {
  status_ = FailureOf(error_number, request_->What());
  return Next::kFinish;
}

IoPiece::Next IoPiece::FailAtEndOfFile(uint64_t end_bytes) {
  status_ =
      DataLoss(fmt::format("{}: the file ends at or before byte {}", request_->What(), end_bytes));
  return Next::kFinish;
}

std::string IoRequest::What() const {
  const IoTransfer& whole = options_.transfer;
  return fmt::format("{} {} offset_bytes={} length_bytes={}",
                     whole.direction == IoDirection::kRead ? "read" : "write", options_.path,
                     whole.offset_bytes, whole.length_bytes);
}

std::optional<IoPiece> IoRequest::CutPiece() {
  std::lock_guard lock(mutex_);
  if (cut_bytes_ == length_bytes() || !failure_.ok()) return std::nullopt;
  IoTransfer piece = options_.transfer;
  piece.offset_bytes += cut_bytes_;
  piece.memory += cut_bytes_;
  piece.length_bytes = std::min({length_bytes() - cut_bytes_, options_.block_size_bytes,
                                 options_.chunks.BytesToBorder(piece.memory)});
  cut_bytes_ += piece.length_bytes;
  ++pieces_out_;
  return IoPiece(shared_from_this(), piece, options_.alignment_bytes);
}

void IoRequest::Finish(const Status& piece_status) {
  {
    std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = piece_status;
    --pieces_out_;
    if (!ReadyLocked()) return;
    became_ready_.notify_all();
  }
  if (options_.done) options_.done();
}

bool IoRequest::ReadyLocked() const {
  bool all_cut = cut_bytes_ == length_bytes() || !failure_.ok();
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

std::optional<Status> IoRequest::Wait(std::chrono::milliseconds deadline) {
  std::unique_lock lock(mutex_);
  if (!became_ready_.wait_for(lock, deadline, [this] { return ReadyLocked(); }))
    return std::nullopt;
  return failure_;
}

std::string IoRequest::Progress() const {
  std::lock_guard lock(mutex_);
  return fmt::format("{} pieces are with the kernel, {} bytes have not been started", pieces_out_,
                     length_bytes() - cut_bytes_);
}

}  // namespace strata::aio
