#include <algorithm>

#include "prefetch/internal/lanes.h"
#include "prefetch/internal/node_bytes.h"

namespace strata::prefetch {

NvmeLane::NvmeLane(const LaneParts& lane_parts, Lane lane, std::vector<NodeIndex> nodes,
                   uint32_t nodes_in_flight)
    : lane_parts_(lane_parts),
      lane_(lane),
      nodes_(std::move(nodes)),
      nodes_in_flight_(nodes_in_flight),
      thread_(lane_parts.board, [this](StepBoard::Waiter& waiter) { RunStep(waiter); }) {}

void NvmeLane::RunStep(StepBoard::Waiter& waiter) {
  next_ = 0;
  while (true) {
    switch (AwaitAction(waiter)) {
      case Action::kStart:
        StartNext(waiter);
        break;
      case Action::kFinish:
        FinishOne();
        break;
      case Action::kLeave:
        return;
    }
  }
}

// What is cheap comes first: starting a read, finishing a write. The other two compute a checksum.
NvmeLane::Action NvmeLane::AwaitAction(StepBoard::Waiter& waiter) {
  StepBoard& board = lane_parts_.board;
  while (true) {
    const bool stopped = board.stopped();
    const bool wants_next = !stopped && HasRoomForNext();
    std::optional<NodeIndex> missing;
    if (wants_next) missing = board.FirstUndone(lane_parts_.plan.nodes[nodes_[next_]].deps);
    const bool can_start = wants_next && !missing;
    if (can_start && lane_ == Lane::kNvmeRead) return Action::kStart;
    if (HasCompleted()) return Action::kFinish;
    if (can_start) return Action::kStart;
    if (in_flight_.empty() && (stopped || next_ == nodes_.size())) return Action::kLeave;
    board.AwaitAny(waiter, missing, stopped, [this] { return !completed_.empty(); });
  }
}

// The store takes one operation per block at a time, and two reads of one version have no order in
// the plan.
bool NvmeLane::HasRoomForNext() const {
  if (next_ == nodes_.size() || in_flight_.size() == nodes_in_flight_) return false;
  const BlockId block = lane_parts_.plan.nodes[nodes_[next_]].block;
  return std::none_of(in_flight_.begin(), in_flight_.end(), [&](const InFlight& other) {
    return lane_parts_.plan.nodes[other.node].block == block;
  });
}

bool NvmeLane::HasCompleted() const {
  return lane_parts_.board.Locked([this] { return !completed_.empty(); });
}

void NvmeLane::StartNext(StepBoard::Waiter& waiter) {
  const NodeIndex index = nodes_[next_++];
  const StepBoard::Time start = tiering::Clock::now();
  tiering::StoreTicket ticket = Start(lane_parts_.plan.nodes[index], [this, index, &waiter] {
    lane_parts_.board.Wake(waiter, [&] { completed_.push_back(index); });
  });
  in_flight_.push_back({.node = index, .start = start, .ticket = std::move(ticket)});
}

tiering::StoreTicket NvmeLane::Start(const Node& node, aio::IoDone done) const {
  const ExecutorParts& parts = lane_parts_.parts;
  const tiering::StoreBlock block = parts.store_blocks[Index(node.block)];
  const uint64_t bytes = MovedBytes(lane_parts_.plan, node);
  if (node.kind == NodeKind::kRead) {
    return parts.store->StartRead(block, lane_parts_.memory.Bytes(node.to, bytes), std::move(done));
  }
  return parts.store->StartWrite(block, lane_parts_.memory.Bytes(node.from, bytes),
                                 std::move(done));
}

void NvmeLane::FinishOne() {
  const NodeIndex index = lane_parts_.board.Locked([this] {
    const NodeIndex first = completed_.front();
    completed_.erase(completed_.begin());
    return first;
  });
  const auto over = std::find_if(in_flight_.begin(), in_flight_.end(),
                                 [&](const InFlight& one) { return one.node == index; });
  STRATA_CHECK(over != in_flight_.end());
  const Status status = over->ticket.Finish();
  const StepBoard::Time start = over->start;
  in_flight_.erase(over);
  if (!status.ok()) return lane_parts_.board.Fail(index, status);
  lane_parts_.board.Done(index, start, tiering::Clock::now());
}

}  // namespace strata::prefetch
