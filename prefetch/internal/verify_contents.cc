#include <fmt/format.h>

#include <algorithm>

#include "prefetch/internal/byte_map.h"
#include "prefetch/internal/node_bytes.h"
#include "prefetch/internal/verify_passes.h"

namespace strata::prefetch {
namespace {

// Nodes are visited in plan order, which is an order that happens-before allows. So it is enough to
// hold each access against the last write and the reads since: what came earlier is ordered with
// those, as they were checked when it was their turn.
class ContentWalk {
 public:
  ContentWalk(const StepPlan& plan, const HappensBefore& before)
      : plan_(plan),
        before_(before),
        tiers_{ByteMap(plan.budgets.device_bytes), ByteMap(plan.budgets.host_bytes)},
        nvme_(plan.trace.blocks.size()),
        versions_(plan.trace.blocks.size()),
        op_versions_(plan.trace.ops.size()) {
    CountVersions();
    PlaceStart();
  }

  Status Visit(NodeIndex node);
  Status CheckEnd();

 private:
  void CountVersions();
  void PlaceStart();
  Status VisitRun(NodeIndex node);
  Status VisitTransfer(NodeIndex node);

  Status Read(NodeIndex node, const Slot& slot, BlockId block, uint32_t version);
  Status Write(NodeIndex node, const Slot& slot, uint64_t length, std::optional<Content> content);
  Status CheckAfterWriter(NodeIndex node, const Holding& holding) const;
  Status CheckAfterAll(NodeIndex node, const Holding& holding) const;
  Status CheckHolds(const Holding& holding, const Content& expected) const;
  Status CheckResidentAtEnd(const Resident& resident);
  void AddReader(NodeIndex node, Holding& holding) const;

  ByteMap& MapOf(const Slot& slot) { return tiers_[static_cast<size_t>(slot.tier)]; }
  const TraceBlock& BlockOf(BlockId id) const { return plan_.trace.blocks[Index(id)]; }
  std::string Describe(const std::optional<Content>& content) const;

  const StepPlan& plan_;
  const HappensBefore& before_;
  std::array<ByteMap, 2> tiers_;                    // [Tier::kDevice, Tier::kHost]
  std::vector<Holding> nvme_;                       // by block
  std::vector<uint32_t> versions_;                  // by block: the final version
  std::vector<std::vector<uint32_t>> op_versions_;  // by op and access: the version before it
};

void ContentWalk::CountVersions() {
  for (size_t op = 0; op < plan_.trace.ops.size(); ++op) {
    for (const Access& access : plan_.trace.ops[op].accesses) {
      uint32_t& version = versions_[Index(access.block)];
      op_versions_[op].push_back(version);
      if (access.mode != AccessMode::kRead) ++version;
    }
  }
}

void ContentWalk::PlaceStart() {
  for (const Resident& resident : plan_.residents) {
    const uint64_t begin = resident.slot.offset_bytes;
    const Content content{.block = resident.block, .version = 0, .offset_bytes = begin};
    MapOf(resident.slot)
        .Assign(begin, begin + PaddedBytes(BlockOf(resident.block)),
                {.content = content, .writer = {}, .readers = {}});
  }
  for (size_t i = 0; i < nvme_.size(); ++i) {
    const TraceBlock& block = plan_.trace.blocks[i];
    if (block.lifetime != Lifetime::kPersistent || block.home != Tier::kNvme) continue;
    nvme_[i].content = Content{.block = BlockId(i), .version = 0, .offset_bytes = 0};
  }
}

std::string ContentWalk::Describe(const std::optional<Content>& content) const {
  if (!content) return "nothing of use";
  return fmt::format("{} version {} from offset {} on", BlockOf(content->block).name,
                     content->version, content->offset_bytes);
}

Status ContentWalk::CheckAfterWriter(NodeIndex node, const Holding& holding) const {
  if (!holding.writer || before_.Ordered(*holding.writer, node)) return OkStatus();
  return Internal(fmt::format("may run while {} still writes there: nothing orders them",
                              NodeLabel(plan_, *holding.writer)));
}

Status ContentWalk::CheckAfterAll(NodeIndex node, const Holding& holding) const {
  STRATA_RETURN_IF_ERROR(CheckAfterWriter(node, holding));
  for (NodeIndex reader : holding.readers) {
    if (reader == node || before_.Ordered(reader, node)) continue;
    return Internal(fmt::format("may write while {} still reads there: nothing orders them",
                                NodeLabel(plan_, reader)));
  }
  return OkStatus();
}

Status ContentWalk::CheckHolds(const Holding& holding, const Content& expected) const {
  if (holding.content == expected) return OkStatus();
  return Internal(fmt::format(
      "expects {}, finds {}{}", Describe(expected), Describe(holding.content),
      holding.writer ? ", left by " + NodeLabel(plan_, *holding.writer) : std::string()));
}

// A reader that happens before this one need not be kept: whoever comes after this one comes after
// both.
void ContentWalk::AddReader(NodeIndex node, Holding& holding) const {
  std::erase_if(holding.readers, [&](NodeIndex r) { return before_.Ordered(r, node); });
  holding.readers.push_back(node);
}

Status ContentWalk::Read(NodeIndex node, const Slot& slot, BlockId block, uint32_t version) {
  const uint64_t begin = slot.offset_bytes;
  const Content expected{.block = block, .version = version, .offset_bytes = begin};
  return MapOf(slot)
      .ForEach(begin, begin + PaddedBytes(BlockOf(block)),
               [&](Holding& holding) -> Status {
                 STRATA_RETURN_IF_ERROR(CheckHolds(holding, expected));
                 STRATA_RETURN_IF_ERROR(CheckAfterWriter(node, holding));
                 AddReader(node, holding);
                 return OkStatus();
               })
      .With(fmt::format("read of {} at {}", TierName(slot.tier), begin));
}

Status ContentWalk::Write(NodeIndex node, const Slot& slot, uint64_t length,
                          std::optional<Content> content) {
  const uint64_t begin = slot.offset_bytes;
  if (content) content->offset_bytes = begin;
  STRATA_RETURN_IF_ERROR(
      MapOf(slot)
          .ForEach(begin, begin + length,
                   [&](const Holding& holding) { return CheckAfterAll(node, holding); })
          .With(fmt::format("write of {} at {}", TierName(slot.tier), begin)));
  MapOf(slot).Assign(begin, begin + length, {.content = content, .writer = node, .readers = {}});
  return OkStatus();
}

Status ContentWalk::VisitRun(NodeIndex index) {
  const Node& node = plan_.nodes[index];
  const TraceOp& op = plan_.trace.ops[Index(node.op)];
  for (size_t i = 0; i < op.accesses.size(); ++i) {
    const auto [block, mode] = op.accesses[i];
    const uint32_t version = op_versions_[Index(node.op)][i];
    if (mode != AccessMode::kWrite) {
      STRATA_RETURN_IF_ERROR(Read(index, node.operands[i], block, version));
    }
    if (mode == AccessMode::kRead) continue;
    STRATA_RETURN_IF_ERROR(Write(index, node.operands[i], PaddedBytes(BlockOf(block)),
                                 Content{.block = block, .version = version + 1}));
  }
  if (op.workspace_bytes == 0) return OkStatus();
  const uint64_t length = RoundUp(op.workspace_bytes, tiering::kSlotAlignmentBytes);
  return Write(index, *node.workspace, length, std::nullopt).With("workspace");
}

Status ContentWalk::VisitTransfer(NodeIndex index) {
  const Node& node = plan_.nodes[index];
  Holding& nvme = nvme_[Index(node.block)];
  const Content content{.block = node.block, .version = node.version, .offset_bytes = 0};
  if (node.kind == NodeKind::kRead) {
    STRATA_RETURN_IF_ERROR(CheckHolds(nvme, content).With("read of nvme"));
    STRATA_RETURN_IF_ERROR(CheckAfterWriter(index, nvme).With("read of nvme"));
    AddReader(index, nvme);
  } else {
    STRATA_RETURN_IF_ERROR(Read(index, node.from, node.block, node.version));
  }
  if (node.kind == NodeKind::kWrite) {
    STRATA_RETURN_IF_ERROR(CheckAfterAll(index, nvme).With("write to nvme"));
    nvme = {.content = content, .writer = index, .readers = {}};
    return OkStatus();
  }
  return Write(index, node.to, MovedBytes(plan_, node), content);
}

Status ContentWalk::Visit(NodeIndex node) {
  return (plan_.nodes[node].kind == NodeKind::kRun ? VisitRun(node) : VisitTransfer(node))
      .With(NodeLabel(plan_, node));
}

Status ContentWalk::CheckResidentAtEnd(const Resident& resident) {
  const uint64_t begin = resident.slot.offset_bytes;
  const Content expected{
      .block = resident.block, .version = versions_[Index(resident.block)], .offset_bytes = begin};
  return MapOf(resident.slot)
      .ForEach(begin, begin + PaddedBytes(BlockOf(resident.block)),
               [&](const Holding& holding) { return CheckHolds(holding, expected); })
      .With(fmt::format("end of step: resident {} in its {} slot", BlockOf(resident.block).name,
                        TierName(resident.slot.tier)));
}

Status ContentWalk::CheckEnd() {
  for (const Resident& resident : plan_.residents) {
    STRATA_RETURN_IF_ERROR(CheckResidentAtEnd(resident));
  }
  for (size_t i = 0; i < nvme_.size(); ++i) {
    const TraceBlock& block = plan_.trace.blocks[i];
    if (block.lifetime != Lifetime::kPersistent || block.home != Tier::kNvme) continue;
    const Content expected{.block = BlockId(i), .version = versions_[i], .offset_bytes = 0};
    STRATA_RETURN_IF_ERROR(
        CheckHolds(nvme_[i], expected).With(fmt::format("end of step: {} on nvme", block.name)));
  }
  return OkStatus();
}

}  // namespace

Status VerifyContents(const StepPlan& plan, const HappensBefore& before) {
  ContentWalk walk(plan, before);
  for (NodeIndex node = 0; node < plan.nodes.size(); ++node) {
    STRATA_RETURN_IF_ERROR(walk.Visit(node));
  }
  return walk.CheckEnd();
}

}  // namespace strata::prefetch
