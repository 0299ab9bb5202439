#include "aio/internal/ring_feed.h"

#include <algorithm>

#include "aio/base/units.h"

namespace strata::aio {

std::vector<uint32_t> RingFeed::Push(std::shared_ptr<IoRequest> request) {
  std::lock_guard lock(mutex_);
  queue_.Push(std::move(request));
  std::vector<uint32_t> to_wake;
  for (uint32_t ring = 0; ring < hungry_.size(); ++ring) {
    if (hungry_[ring]) to_wake.push_back(ring);
    hungry_[ring] = false;
  }
  return to_wake;
}

RingFeed::Portion RingFeed::Take(uint32_t ring, size_t room) {
  std::lock_guard lock(mutex_);
  Portion portion;
  size_t fair_share = std::max<size_t>(CeilDiv(queue_.num_pieces(), hungry_.size()), 1);
  size_t limit = hungry_.size() == 1 ? room : std::min(room, fair_share);
  while (portion.pieces.size() < limit) {
    std::optional<IoPiece> piece = queue_.Take();
    if (!piece) break;
    portion.pieces.push_back(std::move(*piece));
  }
  bool work_left = queue_.num_pieces() > 0;
  bool room_left = portion.pieces.size() < room;
  hungry_[ring] = room_left && !work_left;
  portion.more = room_left && work_left;
  portion.stopping = stopping_ && !work_left;
  return portion;
}

void RingFeed::Stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
}

}  // namespace strata::aio
