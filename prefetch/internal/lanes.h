// The lanes of the executor: each issues its nodes in plan order, each node as soon as its
// dependencies allow.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "prefetch/executor.h"
#include "prefetch/internal/node_memory.h"
#include "prefetch/internal/step_board.h"
#include "prefetch/internal/step_thread.h"

namespace strata::prefetch {

// What all lanes look at; outlives them.
struct LaneParts {
  const StepPlan& plan;
  const ExecutorParts& parts;
  const NodeMemory& memory;
  StepBoard& board;
};

// One device stream. One thread issues: it waits for dependencies on host lanes and until those on
// device lanes are on their streams, which is enough, as the stream waits for them. The other waits
// for the stream and tells the board what is done. Two, because issuing runs ahead of the stream.
class DeviceLane {
 public:
  DeviceLane(const LaneParts& lane_parts, Lane lane, std::vector<NodeIndex> nodes);

 private:
  void IssueStep(StepBoard::Waiter& waiter);
  bool AwaitDependencies(StepBoard::Waiter& waiter, NodeIndex index);
  void Put(NodeIndex index);
  void ReapStep(StepBoard::Waiter& waiter);
  void Reap(StepBoard::Waiter& waiter, NodeIndex index);

  const LaneParts& lane_parts_;
  const Lane lane_;
  const std::vector<NodeIndex> nodes_;
  const std::unique_ptr<tiering::DeviceStream> stream_;
  StepThread issuer_;
  StepThread reaper_;
};

// Runs its ops one after the other on its thread.
class CpuLane {
 public:
  CpuLane(const LaneParts& lane_parts, std::vector<NodeIndex> nodes);

 private:
  void RunStep(StepBoard::Waiter& waiter);

  const LaneParts& lane_parts_;
  const std::vector<NodeIndex> nodes_;
  StepThread thread_;
};

// Reads or writes of the store. One thread starts nodes in order while fewer than the limit are in
// flight, and ends them in the order in which they complete.
class NvmeLane {
 public:
  NvmeLane(const LaneParts& lane_parts, Lane lane, std::vector<NodeIndex> nodes,
           uint32_t nodes_in_flight);

 private:
  struct InFlight {
    NodeIndex node = 0;
    StepBoard::Time start;
    tiering::StoreTicket ticket;
  };
  enum class Action { kStart, kFinish, kLeave };

  void RunStep(StepBoard::Waiter& waiter);
  Action AwaitAction(StepBoard::Waiter& waiter);
  bool HasRoomForNext() const;
  bool HasCompleted() const;
  void StartNext(StepBoard::Waiter& waiter);
  tiering::StoreTicket Start(const Node& node, aio::IoDone done) const;
  void FinishOne();

  const LaneParts& lane_parts_;
  const Lane lane_;
  const std::vector<NodeIndex> nodes_;
  const uint32_t nodes_in_flight_;
  size_t next_ = 0;
  std::vector<InFlight> in_flight_;
  std::vector<NodeIndex> completed_;  // under the board's lock: over, not finished yet
  StepThread thread_;
};

}  // namespace strata::prefetch
