// Requests that wait to be cut into pieces.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "aio/internal/io_request.h"

namespace strata::aio {

// The highest priority that there is goes first. Within it the oldest read and the oldest write
// take turns, so that neither starves the other; among reads, and among writes, the oldest request
// goes first. Not thread-safe: the backend has the lock.
class PieceQueue {
 public:
  explicit PieceQueue(uint64_t block_size_bytes) : block_size_bytes_(block_size_bytes) {}

  void Push(std::shared_ptr<IoRequest> request);
  std::optional<IoPiece> Take();  // nothing when there is no work

  // About how many pieces are to come: borders of registered memory make some more.
  uint64_t num_pieces() const;

 private:
  struct Entry {
    std::shared_ptr<IoRequest> request;
    uint64_t uncut_bytes;
  };
  struct Level {
    std::array<std::deque<Entry>, 2> waiting;  // by IoDirection
    size_t turn = 0;
  };
  std::optional<IoPiece> TakeFrom(Level& level);
  std::optional<IoPiece> TakeFrom(std::deque<Entry>& entries);

  uint64_t block_size_bytes_;
  uint64_t uncut_bytes_ = 0;
  std::array<Level, 3> levels_;  // by IoPriority
};

}  // namespace strata::aio
