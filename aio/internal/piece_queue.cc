#include "aio/internal/piece_queue.h"

#include "aio/base/units.h"

namespace strata::aio {

void PieceQueue::Push(std::shared_ptr<IoRequest> request) {
  uint64_t length_bytes = request->length_bytes();
  uncut_bytes_ += length_bytes;
  Level& level = levels_[static_cast<size_t>(request->priority())];
  std::deque<Entry>& entries = level.waiting[static_cast<size_t>(request->direction())];
  entries.push_back({std::move(request), length_bytes});
}

std::optional<IoPiece> PieceQueue::Take() {
  for (Level& level : levels_) {
    if (std::optional<IoPiece> piece = TakeFrom(level)) return piece;
  }
  return std::nullopt;
}

std::optional<IoPiece> PieceQueue::TakeFrom(Level& level) {
  for (size_t tries = 0; tries < level.waiting.size(); ++tries) {
    std::deque<Entry>& entries = level.waiting[level.turn];
    level.turn = (level.turn + 1) % level.waiting.size();
    if (std::optional<IoPiece> piece = TakeFrom(entries)) return piece;
  }
  return std::nullopt;
}

std::optional<IoPiece> PieceQueue::TakeFrom(std::deque<Entry>& entries) {
  while (!entries.empty()) {
    Entry& oldest = entries.front();
    std::optional<IoPiece> piece = oldest.request->CutPiece();
    // Nothing to cut means that the request has ended early: what it did not start is dropped.
    uint64_t gone_bytes = oldest.uncut_bytes - oldest.request->uncut_bytes();
    if (!piece) gone_bytes = oldest.uncut_bytes;
    uncut_bytes_ -= gone_bytes;
    oldest.uncut_bytes -= gone_bytes;
    if (oldest.uncut_bytes == 0) entries.pop_front();
    if (piece) return piece;
  }
  return std::nullopt;
}

uint64_t PieceQueue::num_pieces() const { return CeilDiv(uncut_bytes_, block_size_bytes_); }

}  // namespace strata::aio
