#include "prefetch/internal/lanes.h"

namespace strata::prefetch {

CpuLane::CpuLane(const LaneParts& lane_parts, std::vector<NodeIndex> nodes)
    : lane_parts_(lane_parts),
      nodes_(std::move(nodes)),
      thread_(lane_parts.board, [this](StepBoard::Waiter& waiter) { RunStep(waiter); }) {}

void CpuLane::RunStep(StepBoard::Waiter& waiter) {
  StepBoard& board = lane_parts_.board;
  for (NodeIndex index : nodes_) {
    const Node& node = lane_parts_.plan.nodes[index];
    for (NodeIndex dep : node.deps) {
      if (!board.AwaitDone(waiter, dep)) return;
    }
    if (board.stopped()) return;
    const StepBoard::Time start = tiering::Clock::now();
    const Status status = lane_parts_.parts.run(node.op, lane_parts_.memory.OperandsOf(index), {});
    if (!status.ok()) return board.Fail(index, status);
    board.Done(index, start, tiering::Clock::now());
  }
}

}  // namespace strata::prefetch
