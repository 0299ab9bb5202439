#include "tests/prefetch/hand_plan.h"

namespace strata::prefetch {
namespace {

constexpr uint64_t kPage = 4096;
constexpr BlockId kW{0}, kG{1}, kM{2}, kC{3}, kV{4}, kS{5};

Trace HandTrace() {
  using enum AccessMode;
  const auto block = [](const char* name, uint64_t bytes, Lifetime lifetime, Tier home) {
    return TraceBlock{
        .name = name, .purpose = "test", .size_bytes = bytes, .lifetime = lifetime, .home = home};
  };
  const auto op = [](const char* name, Lane lane, std::vector<Access> accesses) {
    return TraceOp{.name = name, .kind = name, .lane = lane, .accesses = std::move(accesses)};
  };
  Trace trace;
  trace.blocks = {block("w", 2 * kPage, Lifetime::kPersistent, Tier::kNvme),
                  block("g", 2 * kPage - 96, Lifetime::kStep, Tier::kNvme),
                  block("m", kPage, Lifetime::kPersistent, Tier::kHost),
                  block("c", kPage - 8, Lifetime::kPersistent, Tier::kNvme),
                  block("v", 2 * kPage, Lifetime::kPersistent, Tier::kNvme),
                  block("s", 2 * kPage, Lifetime::kStep, Tier::kNvme)};
  trace.ops = {
      op("forward", Lane::kCompute, {{kW, kRead}, {kG, kWrite}}),
      op("backward", Lane::kCompute, {{kG, kReadWrite}, {kW, kRead}}),
      op("update", Lane::kCpu, {{kW, kReadWrite}, {kG, kRead}, {kM, kReadWrite}, {kC, kReadWrite}}),
      op("check", Lane::kCompute, {{kV, kRead}}),
      op("stash", Lane::kCpu, {{kS, kWrite}}),
      op("unstash", Lane::kCpu, {{kS, kRead}})};
  trace.ops[0].workspace_bytes = kPage;
  trace.ops[5].workspace_bytes = 100;
  return trace;
}

Node Transfer(NodeKind kind, Lane lane, std::vector<NodeIndex> deps, BlockId block,
              uint32_t version, Slot from, Slot to) {
  return {.kind = kind,
          .lane = lane,
          .deps = std::move(deps),
          .block = block,
          .version = version,
          .from = from,
          .to = to};
}

Node Run(Lane lane, std::vector<NodeIndex> deps, uint32_t op, std::vector<Slot> operands,
         std::optional<Slot> workspace = {}) {
  return {.kind = NodeKind::kRun,
          .lane = lane,
          .deps = std::move(deps),
          .op = OpId(op),
          .operands = std::move(operands),
          .workspace = workspace};
}

Slot Device(uint64_t first, uint64_t count) { return Pages(Tier::kDevice, first, count); }
Slot Host(uint64_t first, uint64_t count) { return Pages(Tier::kHost, first, count); }

Node ReadNode(std::vector<NodeIndex> deps, BlockId block, uint32_t version, Slot to) {
  return Transfer(NodeKind::kRead, Lane::kNvmeRead, std::move(deps), block, version, {}, to);
}
Node WriteNode(std::vector<NodeIndex> deps, BlockId block, uint32_t version, Slot from) {
  return Transfer(NodeKind::kWrite, Lane::kNvmeWrite, std::move(deps), block, version, from, {});
}

}  // namespace

Slot Pages(Tier tier, uint64_t first, uint64_t count) {
  return {.tier = tier, .offset_bytes = first * kPage, .size_bytes = count * kPage};
}

StepPlan HandPlan() {
  StepPlan plan;
  plan.trace = HandTrace();
  plan.budgets = {.device_bytes = 5 * kPage, .host_bytes = 6 * kPage};
  plan.residents = {{.block = kM, .slot = Host(4, 1), .is_home = true},
                    {.block = kC, .slot = Host(5, 1), .is_home = false}};
  plan.nodes = {
      ReadNode({}, kW, 0, Host(0, 2)),
      Transfer(NodeKind::kCopyIn, Lane::kH2d, {0}, kW, 0, Host(0, 2), Device(0, 2)),
      Run(Lane::kCompute, {1}, 0, {Device(0, 2), Device(2, 2)}, Device(4, 1)),
      Run(Lane::kCompute, {}, 1, {Device(2, 2), Device(0, 2)}),
      Transfer(NodeKind::kCopyOut, Lane::kD2h, {3}, kG, 2, Device(2, 2), Host(2, 2)),
      Run(Lane::kCpu, {0, 4}, 2, {Host(0, 2), Host(2, 2), Host(4, 1), Host(5, 1)}),
      WriteNode({5}, kW, 1, Host(0, 2)),
      WriteNode({5}, kC, 1, Host(5, 1)),
      ReadNode({6}, kV, 0, Host(0, 2)),
      Transfer(NodeKind::kCopyIn, Lane::kH2d, {3, 8}, kV, 0, Host(0, 2), Device(0, 2)),
      Run(Lane::kCompute, {9}, 3, {Device(0, 2)}),
      Run(Lane::kCpu, {}, 4, {Host(2, 2)}),
      WriteNode({11}, kS, 1, Host(2, 2)),
      ReadNode({9, 12}, kS, 1, Host(0, 2)),
      Run(Lane::kCpu, {13}, 5, {Host(0, 2)}, Host(2, 1)),
  };
  return plan;
}

StepPlan ReadsOnly(uint32_t count) {
  StepPlan plan;
  plan.budgets.host_bytes = 2 * kPage * count;
  for (uint32_t i = 0; i < count; ++i) {
    plan.trace.blocks.push_back({.name = "b" + std::to_string(i),
                                 .purpose = "test",
                                 .size_bytes = 2 * kPage,
                                 .lifetime = Lifetime::kPersistent,
                                 .home = Tier::kNvme});
    plan.nodes.push_back(ReadNode({}, BlockId(i), 0, Host(2 * i, 2)));
  }
  return plan;
}

}  // namespace strata::prefetch
