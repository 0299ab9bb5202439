#include "prefetch/simulate.h"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <optional>

#include "aio/base/check.h"
#include "prefetch/internal/rates.h"

namespace strata::prefetch {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// What a stage of a node's work is done by.
enum class Resource { kDrive, kCores, kOwn };

struct Stage {
  Resource resource = Resource::kOwn;
  double cores = 0;      // wanted while under way
  double remaining = 0;  // bytes for the drive, seconds alone for the others
};

// A lane does its nodes in order, one at a time per stage. The nvme lanes have two stages, drive
// and checksum, so that one node can be hashed while another is transferred.
struct LaneState {
  std::vector<NodeIndex> nodes;
  size_t next = 0;  // of `nodes`: not started yet
  size_t num_stages = 1;
  std::array<std::deque<NodeIndex>, 2> queues;  // by stage; the front is under way
};

class Simulation {
 public:
  Simulation(const StepPlan& plan, const Hardware& hardware)
      : plan_(plan), hardware_(hardware), done_(plan.nodes.size()) {
    timeline_.spans.resize(plan.nodes.size());
    work_.resize(plan.nodes.size());
    for (NodeIndex node = 0; node < plan.nodes.size(); ++node) {
      timeline_.spans[node].node = node;
      LaneState& lane = LaneOf(node);
      lane.nodes.push_back(node);
      lane.num_stages = IsSerial(plan.nodes[node].lane) ? 1 : 2;
      work_[node] = StagesOf(node);
    }
  }

  Timeline Run() {
    while (num_done_ < plan_.nodes.size()) {
      const double next_start_s = StartReady();
      SetRates();
      Advance(next_start_s);
    }
    timeline_.step_s = now_s_;
    return std::move(timeline_);
  }

 private:
  struct Active {
    LaneState* lane = nullptr;
    size_t stage = 0;
    Stage* work = nullptr;
    double rate = 0;
  };

  LaneState& LaneOf(NodeIndex node) { return lanes_[static_cast<size_t>(plan_.nodes[node].lane)]; }
  std::array<Stage, 2> StagesOf(NodeIndex node) const;
  double ReadyTime(NodeIndex node) const;
  double StartReady();
  void SetRates();
  double CoresLeftByTransfers(bool mixed) const;
  double RateOf(const Active& active, double slowdown, bool mixed) const;
  double DriveRate(const Active& active, bool mixed) const;
  void Advance(double next_start_s);
  void EndStage(const Active& active);

  const StepPlan& plan_;
  const Hardware& hardware_;
  std::array<LaneState, kNumLanes> lanes_;
  std::vector<std::array<Stage, 2>> work_;
  std::vector<bool> done_;
  size_t num_done_ = 0;
  std::vector<Active> active_;
  double now_s_ = 0;
  Timeline timeline_;
};

std::array<Stage, 2> Simulation::StagesOf(NodeIndex index) const {
  const Node& node = plan_.nodes[index];
  const Resource shared = hardware_.device_shares_cores ? Resource::kCores : Resource::kOwn;
  if (node.kind == NodeKind::kRun) {
    const TraceOp& op = plan_.trace.ops[Index(node.op)];
    const Resource resource = node.lane == Lane::kCpu ? Resource::kCores : shared;
    return {Stage{resource, static_cast<double>(hardware_.op_threads), OpSeconds(op, hardware_)}};
  }
  if (IsSerial(node.lane)) return {Stage{shared, 1, CopySeconds(plan_, node, hardware_)}};
  const Stage drive{Resource::kDrive, 0, static_cast<double>(MovedBytes(plan_, node))};
  const Stage checksum{Resource::kCores, 1, ChecksumSeconds(plan_, node, hardware_)};
  if (node.kind == NodeKind::kRead) return {drive, checksum};
  return {checksum, drive};
}

// When the node may start, as far as its dependencies go. One on its own serial lane costs nothing:
// the lane gets to the node right after it.
double Simulation::ReadyTime(NodeIndex index) const {
  const Node& node = plan_.nodes[index];
  double ready_s = 0;
  for (NodeIndex dep : node.deps) {
    if (!done_[dep]) return kNever;
    const bool own_lane = IsSerial(node.lane) && plan_.nodes[dep].lane == node.lane;
    const double latency_s = own_lane ? 0 : hardware_.node_latency_s;
    ready_s = std::max(ready_s, timeline_.spans[dep].end_s + latency_s);
  }
  return ready_s;
}

// Starts what can start now. When the next one will be ready that so far only waits for latency.
double Simulation::StartReady() {
  double next_start_s = kNever;
  for (LaneState& lane : lanes_) {
    if (!lane.queues[0].empty() || lane.next == lane.nodes.size()) continue;
    const NodeIndex node = lane.nodes[lane.next];
    const double ready_s = ReadyTime(node);
    if (ready_s > now_s_) {
      next_start_s = std::min(next_start_s, ready_s);
      continue;
    }
    ++lane.next;
    lane.queues[0].push_back(node);
    timeline_.spans[node].start_s = now_s_;
  }
  return next_start_s;
}

// Fills active_ with what is under way and how fast.
void Simulation::SetRates() {
  active_.clear();
  double wanted_cores = 0;
  size_t num_drive_users = 0;
  for (LaneState& lane : lanes_) {
    for (size_t stage = 0; stage < lane.num_stages; ++stage) {
      if (lane.queues[stage].empty()) continue;
      Stage& work = work_[lane.queues[stage].front()][stage];
      active_.push_back({.lane = &lane, .stage = stage, .work = &work});
      if (work.resource == Resource::kCores) wanted_cores += work.cores;
      if (work.resource == Resource::kDrive) ++num_drive_users;
    }
  }
  const bool mixed = num_drive_users == 2;
  const double cores = CoresLeftByTransfers(mixed);
  const double slowdown = wanted_cores > cores ? cores / wanted_cores : 1;
  for (Active& active : active_) active.rate = RateOf(active, slowdown, mixed);
}

double Simulation::CoresLeftByTransfers(bool mixed) const {
  constexpr double kAtLeast = 0.1;  // of all cores: the scheduler starves nobody
  double cores = hardware_.cores;
  for (const Active& active : active_) {
    if (active.work->resource != Resource::kDrive) continue;
    cores -= NvmeCoreSeconds(DriveRate(active, mixed), hardware_);
  }
  return std::max(cores, kAtLeast * hardware_.cores);
}

double Simulation::RateOf(const Active& active, double slowdown, bool mixed) const {
  if (active.work->resource == Resource::kOwn) return 1;
  if (active.work->resource == Resource::kCores) return slowdown;
  return DriveRate(active, mixed);
}

// Bytes per second.
double Simulation::DriveRate(const Active& active, bool mixed) const {
  if (active.lane == &lanes_[static_cast<size_t>(Lane::kNvmeRead)]) {
    return mixed ? MixedReadRate(hardware_) : hardware_.nvme_read_bytes_per_s;
  }
  return mixed ? MixedWriteRate(hardware_) : hardware_.nvme_write_bytes_per_s;
}

// To the next end of a stage or start of a node.
void Simulation::Advance(double next_start_s) {
  double step_s = next_start_s - now_s_;
  for (const Active& active : active_)
    step_s = std::min(step_s, active.work->remaining / active.rate);
  STRATA_CHECK(step_s >= 0 && step_s < kNever);  // dependencies point backwards, rates are positive
  now_s_ = step_s == next_start_s - now_s_ ? next_start_s : now_s_ + step_s;
  for (const Active& active : active_) {
    if (active.work->remaining / active.rate <= step_s) {
      EndStage(active);
    } else {
      active.work->remaining -= step_s * active.rate;
    }
  }
}

void Simulation::EndStage(const Active& active) {
  const NodeIndex node = active.lane->queues[active.stage].front();
  active.lane->queues[active.stage].pop_front();
  if (active.stage + 1 < active.lane->num_stages) {
    active.lane->queues[active.stage + 1].push_back(node);
    return;
  }
  timeline_.spans[node].end_s = now_s_;
  done_[node] = true;
  ++num_done_;
}

}  // namespace

Timeline Simulate(const StepPlan& plan, const Hardware& hardware) {
  return Simulation(plan, hardware).Run();
}

}  // namespace strata::prefetch
