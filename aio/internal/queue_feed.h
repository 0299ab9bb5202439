// The work that several kernel queues share.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "aio/internal/piece_queue.h"

namespace strata::aio {

// Thread-safe. Pieces go to whichever queue has room, in portions that leave some for the others.
// A queue that found nothing is remembered, and named by the next Push for its thread to be woken:
// so no work is left lying, and no thread is woken that has enough to do.
class QueueFeed {
 public:
  struct Portion {
    std::vector<IoPiece> pieces;
    bool more = false;      // there is room and work left: submit these and come again
    bool stopping = false;  // no work, and none will come
  };

  QueueFeed(uint64_t block_size_bytes, uint32_t num_queues)
      : waiting_(block_size_bytes), hungry_(num_queues, false) {}

  // Returns the queues to wake.
  [[nodiscard]] std::vector<uint32_t> Push(std::shared_ptr<IoRequest> request);
  Portion Take(uint32_t queue, size_t room);
  void Stop();  // the caller then wakes all queues

 private:
  std::mutex mutex_;
  PieceQueue waiting_;
  std::vector<bool> hungry_;
  bool stopping_ = false;
};

}  // namespace strata::aio
