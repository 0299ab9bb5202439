// The work that several rings share.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "aio/internal/piece_queue.h"

namespace strata::aio {

// Thread-safe. Pieces go to whichever ring has room, in portions that leave some for the others.
// A ring that found nothing is remembered, and named by the next Push for its thread to be woken:
// so no work is left lying, and no thread is woken that has enough to do.
class RingFeed {
 public:
  struct Portion {
    std::vector<IoPiece> pieces;
    bool more = false;      // there is room and work left: submit these and come again
    bool stopping = false;  // no work, and none will come
  };

  RingFeed(uint64_t block_size_bytes, uint32_t num_rings)
      : queue_(block_size_bytes), hungry_(num_rings, false) {}

  // Returns the rings to wake.
  [[nodiscard]] std::vector<uint32_t> Push(std::shared_ptr<IoRequest> request);
  Portion Take(uint32_t ring, size_t room);
  void Stop();  // the caller then wakes all rings

 private:
  std::mutex mutex_;
  PieceQueue queue_;
  std::vector<bool> hungry_;
  bool stopping_ = false;
};

}  // namespace strata::aio
