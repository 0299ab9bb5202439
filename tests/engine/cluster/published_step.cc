#include "tests/engine/cluster/published_step.h"

#include <algorithm>
#include <utility>

#include "prefetch/simulate.h"

namespace strata::engine {

using prefetch::Lane;
using prefetch::NodeKind;

PublishedStep::Node PublishedStep::Transfer(NodeKind kind, Lane lane, double bytes, Nodes after) {
  prefetch::BlockId block = static_cast<prefetch::BlockId>(plan_.trace.blocks.size());
  plan_.trace.blocks.push_back({.name = "block " + std::to_string(Index(block)),
                                .size_bytes = static_cast<uint64_t>(bytes)});
  std::ranges::sort(after);
  plan_.nodes.push_back({.kind = kind, .lane = lane, .deps = std::move(after), .block = block});
  return static_cast<Node>(plan_.nodes.size() - 1);
}

PublishedStep::Node PublishedStep::Run(Lane lane, const std::string& kind, double work,
                                       Nodes after) {
  prefetch::OpId op = static_cast<prefetch::OpId>(plan_.trace.ops.size());
  plan_.trace.ops.push_back({.name = kind, .kind = kind, .lane = lane, .work = work});
  std::ranges::sort(after);
  plan_.nodes.push_back({.kind = NodeKind::kRun, .lane = lane, .deps = std::move(after), .op = op});
  return static_cast<Node>(plan_.nodes.size() - 1);
}

PublishedStep::Node PublishedStep::Read(double bytes, Nodes after) {
  return Transfer(NodeKind::kRead, Lane::kNvmeRead, bytes, std::move(after));
}
PublishedStep::Node PublishedStep::Write(double bytes, Nodes after) {
  return Transfer(NodeKind::kWrite, Lane::kNvmeWrite, bytes, std::move(after));
}
PublishedStep::Node PublishedStep::ToDevice(double bytes, Nodes after) {
  return Transfer(NodeKind::kCopyIn, Lane::kH2d, bytes, std::move(after));
}
PublishedStep::Node PublishedStep::ToHost(double bytes, Nodes after) {
  return Transfer(NodeKind::kCopyOut, Lane::kD2h, bytes, std::move(after));
}
PublishedStep::Node PublishedStep::Compute(const std::string& kind, double work, Nodes after) {
  return Run(Lane::kCompute, kind, work, std::move(after));
}
PublishedStep::Node PublishedStep::OnCpu(const std::string& kind, double work, Nodes after) {
  return Run(Lane::kCpu, kind, work, std::move(after));
}

prefetch::Timeline PublishedStep::SimulateOn(const prefetch::Hardware& hardware) const {
  return prefetch::Simulate(plan_, hardware);
}

}  // namespace strata::engine
