#include "prefetch/executor.h"

#include <algorithm>

#include "prefetch/internal/lanes.h"
#include "prefetch/internal/prime.h"

namespace strata::prefetch {

class Executor::Impl {
 public:
  Impl(const StepPlan& plan, ExecutorParts parts, const ExecutorOptions& options)
      : plan_(plan),
        parts_(std::move(parts)),
        options_(options),
        memory_(plan, parts_),
        board_(plan) {
    STRATA_CHECK(options.io_nodes_in_flight > 0);
    STRATA_CHECK(!TouchesNvme() || (parts_.store != nullptr &&
                                    parts_.store_blocks.size() == plan.trace.blocks.size()));
    std::array<std::vector<NodeIndex>, kNumLanes> nodes;
    for (NodeIndex node = 0; node < plan.nodes.size(); ++node) {
      nodes[static_cast<size_t>(plan.nodes[node].lane)].push_back(node);
    }
    for (size_t lane = 0; lane < kNumLanes; ++lane) {
      if (!nodes[lane].empty()) AddLane(Lane(lane), std::move(nodes[lane]));
    }
  }

  ~Impl() { board_.Quit(); }

  Status Prime() {
    STRATA_CHECK(!used_up_);
    const Status status = PrimeResidents(plan_, parts_, memory_, options_.io_nodes_in_flight);
    used_up_ = !status.ok();
    return status;
  }

  Result<Timeline> RunStep() {
    STRATA_CHECK(!used_up_);
    Status status = board_.BeginStep();
    if (status.ok()) status = board_.AwaitEnd();
    used_up_ = !status.ok();
    if (used_up_) return status;
    return board_.TakeTimeline();
  }

  StepProgress progress() const { return board_.progress(); }
  std::string DescribeLanes() const { return board_.DescribeLanes(); }

 private:
  bool TouchesNvme() const {
    const auto is_cached = [](const Resident& resident) { return !resident.is_home; };
    const auto is_io = [](const Node& node) { return !IsSerial(node.lane); };
    return std::any_of(plan_.nodes.begin(), plan_.nodes.end(), is_io) ||
           std::any_of(plan_.residents.begin(), plan_.residents.end(), is_cached);
  }

  void AddLane(Lane lane, std::vector<NodeIndex> nodes) {
    if (lane == Lane::kCpu) {
      cpu_lane_ = std::make_unique<CpuLane>(lane_parts_, std::move(nodes));
    } else if (IsSerial(lane)) {
      STRATA_CHECK(parts_.device != nullptr);
      device_lanes_.push_back(std::make_unique<DeviceLane>(lane_parts_, lane, std::move(nodes)));
    } else {
      nvme_lanes_.push_back(std::make_unique<NvmeLane>(lane_parts_, lane, std::move(nodes),
                                                       options_.io_nodes_in_flight));
    }
  }

  const StepPlan& plan_;
  const ExecutorParts parts_;
  const ExecutorOptions options_;
  const NodeMemory memory_;
  StepBoard board_;
  const LaneParts lane_parts_{plan_, parts_, memory_, board_};
  bool used_up_ = false;
  // Last, so that their threads end before anything that they use.
  std::vector<std::unique_ptr<DeviceLane>> device_lanes_;
  std::vector<std::unique_ptr<NvmeLane>> nvme_lanes_;
  std::unique_ptr<CpuLane> cpu_lane_;
};

Executor::Executor(const StepPlan& plan, ExecutorParts parts, const ExecutorOptions& options)
    : impl_(std::make_unique<Impl>(plan, std::move(parts), options)) {}
Executor::~Executor() = default;

Status Executor::Prime() { return impl_->Prime(); }
Result<Timeline> Executor::RunStep() { return impl_->RunStep(); }
StepProgress Executor::progress() const { return impl_->progress(); }
std::string Executor::DescribeLanes() const { return impl_->DescribeLanes(); }

}  // namespace strata::prefetch
