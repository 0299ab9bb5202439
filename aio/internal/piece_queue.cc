#include "aio/internal/piece_queue.h"

#include "aio/base/units.h"

namespace strata::aio {

void PieceQueue::Push(std::shared_ptr<IoRequest> request) {
  uint64_t length_bytes = request->length_bytes();
  uncut_bytes_ += length_bytes;
  std::deque<Entry>& entries = waiting_[static_cast<size_t>(request->direction())];
  entries.push_back({std::move(request), length_bytes});
}

std::optional<IoPiece> PieceQueue::Take() {
  for (size_t tries = 0; tries < waiting_.size(); ++tries) {
    std::deque<Entry>& entries = waiting_[turn_];
    turn_ = (turn_ + 1) % waiting_.size();
    if (std::optional<IoPiece> piece = TakeFrom(entries)) return piece;
  }
  return std::nullopt;
}

std::optional<IoPiece> PieceQueue::TakeFrom(std::deque<Entry>& entries) {
  while (!entries.empty()) {
    Entry& oldest = entries.front();
    std::optional<IoPiece> piece = oldest.request->CutPiece();
    // Nothing to cut means that the request has failed: what it did not start is dropped.
    uint64_t gone_bytes = piece ? piece->transfer().length_bytes : oldest.uncut_bytes;
    uncut_bytes_ -= gone_bytes;
    oldest.uncut_bytes -= gone_bytes;
    if (oldest.uncut_bytes == 0) entries.pop_front();
    if (piece) return piece;
  }
  return std::nullopt;
}

uint64_t PieceQueue::num_pieces() const { return CeilDiv(uncut_bytes_, block_size_bytes_); }

}  // namespace strata::aio
