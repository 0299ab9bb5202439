#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "aio/base/check.h"
#include "aio/internal/io_request.h"
#include "aio/internal/retry.h"

namespace strata::aio {
namespace {

// A drive that timed out is a drive that failed: kDeadlineExceeded is kept for our own deadlines.
Status FailureOf(int error_number, const std::string& what) {
  Status status = ErrnoStatus(error_number, what);
  if (error_number == ETIMEDOUT) return Status(Code::kIoError, status.message());
  return status;
}

}  // namespace

TailBlock::TailBlock(uint64_t block_bytes, uint64_t alignment_bytes, std::span<std::byte> wanted)
    : memory_(static_cast<std::byte*>(
          std::aligned_alloc(alignment_bytes, RoundUp(block_bytes, alignment_bytes)))),
      wanted_(wanted) {
  STRATA_CHECK(memory_ != nullptr);
}

void TailBlock::CopyOut() const { std::copy_n(memory_.get(), wanted_.size(), wanted_.begin()); }

IoPiece::IoPiece(std::shared_ptr<IoRequest> request, size_t segment, const IoTransfer& transfer,
                 uint64_t alignment_bytes)
    : request_(std::move(request)),
      segment_(segment),
      transfer_(transfer),
      alignment_bytes_(alignment_bytes) {}

IoPiece::IoPiece(std::shared_ptr<IoRequest> request, Status end)
    : request_(std::move(request)), status_(std::move(end)) {}

std::string IoPiece::What() const { return request_->What(segment_); }

IoPiece::Next IoPiece::OnResult(int64_t result) {
  int error_number = result < 0 ? static_cast<int>(-result) : 0;
  if (error_number == EINTR || error_number == EAGAIN) return RepeatOr(error_number);
  if (error_number != 0) return Fail(error_number);
  bool is_read = transfer_.direction == IoDirection::kRead;
  if (result == 0 && is_read) return FailAtEndOfFile(transfer_.offset_bytes);
  if (result == 0) return Fail(EIO);
  return OnMoved(static_cast<uint64_t>(result));
}

IoPiece::Next IoPiece::OnMoved(uint64_t moved_bytes) {
  STRATA_CHECK(moved_bytes <= transfer_.length_bytes);
  uint64_t wanted_bytes = tail_ ? tail_->wanted_bytes() : transfer_.length_bytes;
  if (moved_bytes < wanted_bytes) return OnShortTransfer(moved_bytes);
  if (tail_) tail_->CopyOut();
  return Next::kFinish;
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
  status_ = FailureOf(error_number, request_->What(segment_));
  return Next::kFinish;
}

IoPiece::Next IoPiece::FailAtEndOfFile(uint64_t end_bytes) {
  status_ = DataLoss(
      fmt::format("{}: the file ends at or before byte {}", request_->What(segment_), end_bytes));
  return Next::kFinish;
}

}  // namespace strata::aio
