#include "prefetch/timeline.h"

#include <algorithm>
#include <optional>

#include "prefetch/internal/node_bytes.h"
#include "prefetch/internal/rates.h"
#include "prefetch/internal/waits.h"

namespace strata::prefetch {
namespace {

LaneUse UseOfLane(const StepPlan& plan, const Timeline& timeline,
                  const std::vector<NodeIndex>& nodes) {
  LaneUse use;
  double covered_s = 0;  // everything before is busy or a stall
  for (NodeIndex node : nodes) {
    const Span& span = timeline.spans[node];
    use.bytes += MovedBytes(plan, plan.nodes[node]);
    if (span.start_s > covered_s) {
      use.stalled_s[StallReason(plan, timeline, node, covered_s)] += span.start_s - covered_s;
      covered_s = span.start_s;
    }
    if (span.end_s <= covered_s) continue;
    use.busy_s += span.end_s - covered_s;
    covered_s = span.end_s;
  }
  use.idle_s = timeline.step_s - covered_s;
  return use;
}

// The least time in which a drive reads and writes so much. Each direction alone is slower than its
// part of a mixture, or faster: mixing pays as long as both have something left, or not at all.
double NvmeSeconds(double read_bytes, double written_bytes, const Hardware& hardware) {
  const double read_s = read_bytes / hardware.nvme_read_bytes_per_s;
  const double write_s = written_bytes / hardware.nvme_write_bytes_per_s;
  const double mixed_read = MixedReadRate(hardware);
  const double mixed_write = MixedWriteRate(hardware);
  const double gain = mixed_read / hardware.nvme_read_bytes_per_s +
                      mixed_write / hardware.nvme_write_bytes_per_s - 1;
  const double both_s = std::min(read_bytes / mixed_read, written_bytes / mixed_write);
  return read_s + write_s - std::max(0.0, gain) * both_s;
}

// The work that a plan puts on each lane, in seconds alone.
struct LaneWork {
  std::array<double, kNumLanes> seconds{};
  double checksum_s = 0;
  double transfer_s = 0;  // of the cores
  double read_bytes = 0;
  double written_bytes = 0;
};

LaneWork WorkOf(const StepPlan& plan, const Hardware& hardware) {
  LaneWork work;
  for (const Node& node : plan.nodes) {
    double& seconds = work.seconds[static_cast<size_t>(node.lane)];
    if (node.kind == NodeKind::kRun) {
      seconds += OpSeconds(plan.trace.ops[Index(node.op)], hardware);
    } else if (IsSerial(node.lane)) {
      seconds += CopySeconds(plan, node, hardware);
    } else {
      const auto bytes = static_cast<double>(MovedBytes(plan, node));
      work.checksum_s += ChecksumSeconds(plan, node, hardware);
      work.transfer_s += NvmeCoreSeconds(bytes, hardware);
      (node.kind == NodeKind::kRead ? work.read_bytes : work.written_bytes) += bytes;
    }
  }
  return work;
}

double CoresSeconds(const LaneWork& work, const Hardware& hardware) {
  double core_seconds = work.checksum_s + work.transfer_s;
  for (size_t lane = 0; lane < kNumLanes; ++lane) {
    const bool copies = Lane(lane) == Lane::kH2d || Lane(lane) == Lane::kD2h;
    core_seconds += work.seconds[lane] * (copies ? 1 : hardware.op_threads);
  }
  return core_seconds / hardware.cores;
}

}  // namespace

std::string StallReason(const StepPlan& plan, const Timeline& timeline, NodeIndex node,
                        double gap_begin_s) {
  const std::optional<NodeIndex> last = LastDependency(plan, timeline, node);
  if (last && timeline.spans[*last].end_s > gap_begin_s) {
    return std::string(LaneName(plan.nodes[*last].lane));
  }
  return gap_begin_s == 0 ? "start" : "issue";
}

std::array<std::vector<NodeIndex>, kNumLanes> NodesByLane(const StepPlan& plan,
                                                          const Timeline& timeline) {
  std::array<std::vector<NodeIndex>, kNumLanes> lanes;
  for (NodeIndex node = 0; node < plan.nodes.size(); ++node) {
    lanes[static_cast<size_t>(plan.nodes[node].lane)].push_back(node);
  }
  for (std::vector<NodeIndex>& nodes : lanes) {
    std::stable_sort(nodes.begin(), nodes.end(), [&](NodeIndex a, NodeIndex b) {
      return timeline.spans[a].start_s < timeline.spans[b].start_s;
    });
  }
  return lanes;
}

std::array<LaneUse, kNumLanes> UseOf(const StepPlan& plan, const Timeline& timeline) {
  const auto lanes = NodesByLane(plan, timeline);
  std::array<LaneUse, kNumLanes> uses;
  for (size_t lane = 0; lane < kNumLanes; ++lane) {
    uses[lane] = UseOfLane(plan, timeline, lanes[lane]);
  }
  return uses;
}

Bound BoundOf(const StepPlan& plan, const Hardware& hardware) {
  const LaneWork work = WorkOf(plan, hardware);
  Bound bound;
  bound.seconds_by_resource["nvme"] = NvmeSeconds(work.read_bytes, work.written_bytes, hardware);
  if (hardware.device_shares_cores) {
    bound.seconds_by_resource["cores"] = CoresSeconds(work, hardware);
  } else {
    for (Lane lane : {Lane::kH2d, Lane::kD2h, Lane::kCompute, Lane::kComm, Lane::kCpu}) {
      bound.seconds_by_resource[std::string(LaneName(lane))] =
          work.seconds[static_cast<size_t>(lane)];
    }
  }
  for (const auto& [resource, seconds] : bound.seconds_by_resource) {
    if (seconds <= bound.seconds && !bound.resource.empty()) continue;
    bound.seconds = seconds;
    bound.resource = resource;
  }
  return bound;
}

}  // namespace strata::prefetch
