#include <array>

#include "prefetch/internal/lanes.h"

namespace strata::prefetch {
namespace {

bool IsDeviceLane(Lane lane) {
  return lane == Lane::kH2d || lane == Lane::kD2h || lane == Lane::kCompute || lane == Lane::kComm;
}

}  // namespace

DeviceLane::DeviceLane(const LaneParts& lane_parts, Lane lane, std::vector<NodeIndex> nodes)
    : lane_parts_(lane_parts),
      lane_(lane),
      nodes_(std::move(nodes)),
      stream_(lane_parts.parts.device->CreateStream(std::string(LaneName(lane)))),
      issuer_(lane_parts.board, [this](StepBoard::Waiter& waiter) { IssueStep(waiter); }),
      reaper_(lane_parts.board, [this](StepBoard::Waiter& waiter) { ReapStep(waiter); }) {}

void DeviceLane::IssueStep(StepBoard::Waiter& waiter) {
  for (NodeIndex index : nodes_) {
    if (!AwaitDependencies(waiter, index)) break;
    tiering::DeviceEvent start = stream_->Record();
    Put(index);
    lane_parts_.board.Issue(index, {.start = std::move(start), .end = stream_->Record()});
  }
  // When the step was stopped, the other thread may have left before the last node was issued, as
  // it could not know that there would be one. Its result is of no use any more, but it must be
  // over when the step is.
  if (lane_parts_.board.stopped()) (void)stream_->Record().Wait();
}

bool DeviceLane::AwaitDependencies(StepBoard::Waiter& waiter, NodeIndex index) {
  StepBoard& board = lane_parts_.board;
  const StepPlan& plan = lane_parts_.plan;
  std::array<bool, kNumLanes> waits_for{};  // the last dependency on a stream stands for all
  const std::vector<NodeIndex>& deps = plan.nodes[index].deps;
  for (auto dep = deps.rbegin(); dep != deps.rend(); ++dep) {
    const Lane lane = plan.nodes[*dep].lane;
    bool& waits = waits_for[static_cast<size_t>(lane)];
    if (lane == lane_ || waits) continue;
    if (!IsDeviceLane(lane)) {
      if (!board.AwaitDone(waiter, *dep)) return false;
      continue;
    }
    waits = true;
    if (!board.AwaitIssued(waiter, *dep)) return false;
    stream_->WaitFor(board.PlaceOf(*dep).end);
  }
  return !board.stopped();
}

void DeviceLane::Put(NodeIndex index) {
  const Node& node = lane_parts_.plan.nodes[index];
  const NodeMemory& memory = lane_parts_.memory;
  if (node.kind == NodeKind::kRun) {
    stream_->Launch([this, index, op = node.op](const tiering::StreamContext& context) {
      return lane_parts_.parts.run(op, lane_parts_.memory.OperandsOf(index), context);
    });
    return;
  }
  const uint64_t bytes = lane_parts_.plan.trace.blocks[Index(node.block)].size_bytes;
  const std::span<std::byte> from = memory.Bytes(node.from, bytes);
  const std::span<std::byte> to = memory.Bytes(node.to, bytes);
  node.kind == NodeKind::kCopyIn ? stream_->CopyIn(to, from) : stream_->CopyOut(to, from);
}

void DeviceLane::ReapStep(StepBoard::Waiter& waiter) {
  for (NodeIndex index : nodes_) {
    if (!lane_parts_.board.AwaitIssued(waiter, index)) return;
    Reap(waiter, index);
  }
}

void DeviceLane::Reap(StepBoard::Waiter& waiter, NodeIndex index) {
  StepBoard& board = lane_parts_.board;
  const StreamPlace place = board.PlaceOf(index);
  const Status status = place.end.Wait();
  if (status.ok()) return board.Done(index, place.start.time(), place.end.time());
  // A stream fails with the streams it waits for. The failure is this node's only if all that it
  // waited for was well; else it is reported where it began, and this returns when it was.
  for (NodeIndex dep : lane_parts_.plan.nodes[index].deps) {
    if (!board.AwaitDone(waiter, dep)) return;
  }
  board.Fail(index, status);
}

}  // namespace strata::prefetch
