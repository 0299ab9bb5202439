#include "aio/internal/queue_feed.h"

#include <algorithm>

#include "aio/base/units.h"

namespace strata::aio {

std::vector<uint32_t> QueueFeed::Push(std::shared_ptr<IoRequest> request) {
  std::lock_guard lock(mutex_);
  waiting_.Push(std::move(request));
  std::vector<uint32_t> to_wake;
  for (uint32_t queue = 0; queue < hungry_.size(); ++queue) {
    if (hungry_[queue]) to_wake.push_back(queue);
    hungry_[queue] = false;
  }
  return to_wake;
}

QueueFeed::Portion QueueFeed::Take(uint32_t queue, size_t room) {
  std::lock_guard lock(mutex_);
  Portion portion;
  size_t fair_share = std::max<size_t>(CeilDiv(waiting_.num_pieces(), hungry_.size()), 1);
  size_t limit = hungry_.size() == 1 ? room : std::min(room, fair_share);
  while (portion.pieces.size() < limit) {
    std::optional<IoPiece> piece = waiting_.Take();
    if (!piece) break;
    portion.pieces.push_back(std::move(*piece));
  }
  bool work_left = waiting_.num_pieces() > 0;
  bool room_left = portion.pieces.size() < room;
  hungry_[queue] = room_left && !work_left;
  portion.more = room_left && work_left;
  portion.stopping = stopping_ && !work_left;
  return portion;
}

void QueueFeed::Stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
}

}  // namespace strata::aio
