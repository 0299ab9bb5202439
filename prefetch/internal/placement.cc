#include "prefetch/internal/placement.h"

#include <algorithm>

#include "aio/base/check.h"

namespace strata::prefetch::internal {
namespace {

ArenaMap ArenaFor(const Layout& layout, Tier tier) {
  size_t index = static_cast<size_t>(tier);
  return ArenaMap(layout.fixed_bytes[index], layout.budget_bytes[index]);
}

}  // namespace

Placement::Placement(const Trace& trace, const Layout& layout, const Future& future,
                     uint32_t prefetch_ops)
    : trace_(trace),
      layout_(layout),
      future_(future),
      prefetch_ops_(prefetch_ops),
      arenas_{ArenaFor(layout, Tier::kDevice), ArenaFor(layout, Tier::kHost)},
      states_(trace.blocks.size()) {
  PlaceFixed(layout);
}

void Placement::PlaceFixed(const Layout& layout) {
  for (const std::optional<Slot>& slot : layout.workspaces)
    if (slot)
      usages_[static_cast<size_t>(slot->tier)].Add("workspace", slot->offset_bytes,
                                                   slot->size_bytes);
  for (size_t i = 0; i < states_.size(); ++i) {
    BlockId block = static_cast<BlockId>(i);
    StateOf(block).next_read = future_.NextRead(block, 0);
    if (Describe(block).lifetime == Lifetime::kStep) continue;
    if (Describe(block).home == Tier::kNvme) StateOf(block).nvme_version = 0;
    if (!layout.slots[i]) continue;
    Occupy(block, *layout.slots[i], 0);
    Copy& copy = CopyOf(block, layout.slots[i]->tier);
    copy.is_fixed = true;
    copy.version = 0;
  }
}

void Placement::StartWith(const std::vector<CachedCopy>& cached) {
  starts_warm_ = !cached.empty();
  for (const CachedCopy& start : cached) {
    const Slot& slot = start.slot;
    const Range range{slot.offset_bytes, slot.size_bytes};
    ArenaOf(slot.tier).Take(range, start.block);
    Occupy(start.block, slot, 0);
    Copy& copy = CopyOf(start.block, slot.tier);
    copy.version = 0;
    copy.at_start = start;
    start_slots_[static_cast<size_t>(slot.tier)].push_back(
        {.range = range,
         .block = start.block,
         .since_op = start.since_op,
         .first_read = future_.NextRead(start.block, trace_.ops.size())});
  }
  for (Tier tier : kMemoryTiers) {
    StartSlots& slots = start_slots_[static_cast<size_t>(tier)];
    std::ranges::sort(slots, {}, [](const StartSlot& slot) { return slot.range.offset_bytes; });
    for (size_t i = 0; i < slots.size(); ++i) CopyOf(slots[i].block, tier).start_slot = i;
  }
}

void Placement::StartOp(size_t op, std::optional<NodeIndex> gate) {
  op_ = op;
  gate_ = gate;
}

bool Placement::IsCurrent(BlockId block, Tier tier) const {
  const Copy& copy = CopyOf(block, tier);
  return copy.is_present && copy.version == StateOf(block).version;
}

bool Placement::IsCurrentOnNvme(BlockId block) const {
  return StateOf(block).nvme_version == StateOf(block).version;
}

bool Placement::IsCurrentElsewhere(BlockId block, Tier tier) const {
  return IsCurrentOnNvme(block) || IsCurrent(block, OtherMemory(tier));
}

bool Placement::Bring(BlockId block, Tier tier, const Request& request) {
  if (IsCurrent(block, tier)) return true;
  return tier == Tier::kHost ? BringToHost(block, request) : BringToDevice(block, request);
}

bool Placement::BringToHost(BlockId block, const Request& request) {
  // Finding room in host memory never touches copies in device memory.
  if (!HaveSlot(block, Tier::kHost, request)) return false;
  if (IsCurrent(block, Tier::kDevice))
    CopyAcross(block, Tier::kDevice);
  else
    Read(block);
  return true;
}

bool Placement::BringToDevice(BlockId block, const Request& request) {
  if (!Bring(block, Tier::kHost, request)) return false;
  Pin(block, Tier::kHost);
  bool has_slot = HaveSlot(block, Tier::kDevice, request);
  Unpin(block, Tier::kHost);
  if (has_slot) CopyAcross(block, Tier::kHost);
  return has_slot;
}

bool Placement::HaveSlot(BlockId block, Tier tier, const Request& request) {
  return HasSlot(block, tier) || Allocate(block, tier, request);
}

void Placement::Read(BlockId block) {
  STRATA_CHECK(IsCurrentOnNvme(block));
  BlockState& state = StateOf(block);
  Copy& to = CopyOf(block, Tier::kHost);
  std::vector<NodeIndex> deps;
  to.history.AppendAll(&deps);
  if (state.last_nvme_node) deps.push_back(*state.last_nvme_node);
  NodeIndex node = AddTransfer({.kind = NodeKind::kRead,
                                .lane = Lane::kNvmeRead,
                                .block = block,
                                .version = state.version,
                                .to = to.slot},
                               std::move(deps));
  to.history.SetWriter(node);
  to.version = state.version;
  to.last_use = op_;
  state.last_nvme_node = node;
  MarkStale(block);
}

void Placement::Write(BlockId block) {
  STRATA_CHECK(IsCurrent(block, Tier::kHost));
  BlockState& state = StateOf(block);
  Copy& from = CopyOf(block, Tier::kHost);
  std::vector<NodeIndex> deps;
  from.history.AppendWriter(&deps);
  if (state.last_nvme_node) deps.push_back(*state.last_nvme_node);
  NodeIndex node = AddTransfer({.kind = NodeKind::kWrite,
                                .lane = Lane::kNvmeWrite,
                                .block = block,
                                .version = state.version,
                                .from = from.slot},
                               std::move(deps));
  from.history.AddReader(node, Lane::kNvmeWrite);
  from.last_use = op_;
  state.nvme_version = state.version;
  state.last_nvme_node = node;
  MarkStale(block);
}

void Placement::CopyAcross(BlockId block, Tier from_tier) {
  STRATA_CHECK(IsCurrent(block, from_tier));
  bool is_in = from_tier == Tier::kHost;
  Lane lane = is_in ? Lane::kH2d : Lane::kD2h;
  BlockState& state = StateOf(block);
  Copy& from = CopyOf(block, from_tier);
  Copy& to = CopyOf(block, OtherMemory(from_tier));
  std::vector<NodeIndex> deps;
  from.history.AppendWriter(&deps);
  to.history.AppendAll(&deps);
  NodeIndex node = AddTransfer({.kind = is_in ? NodeKind::kCopyIn : NodeKind::kCopyOut,
                                .lane = lane,
                                .block = block,
                                .version = state.version,
                                .from = from.slot,
                                .to = to.slot},
                               std::move(deps));
  from.history.AddReader(node, lane);
  to.history.SetWriter(node);
  to.version = state.version;
  from.last_use = to.last_use = op_;
  MarkStale(block);
}

NodeIndex Placement::AddTransfer(Node node, std::vector<NodeIndex> deps) {
  if (gate_) deps.push_back(*gate_);
  return sequence_.Add(std::move(node), std::move(deps));
}

NodeIndex Placement::Run(OpId op_id) {
  const TraceOp& op = trace_.ops[Index(op_id)];
  Node node{.kind = NodeKind::kRun, .lane = op.lane, .op = op_id};
  std::vector<NodeIndex> deps;
  for (const Access& access : op.accesses) {
    node.operands.push_back(CopyOf(access.block, TierOf(op.lane)).slot);
    AppendOperandDeps(access, TierOf(op.lane), &deps);
  }
  if (op.workspace_bytes > 0) node.workspace = layout_.workspaces[static_cast<size_t>(op.lane)];
  NodeIndex index = sequence_.Add(std::move(node), std::move(deps));
  for (const Access& access : op.accesses) RecordRun(access, op.lane, index);
  return index;
}

void Placement::AppendOperandDeps(const Access& access, Tier tier,
                                  std::vector<NodeIndex>* deps) const {
  const Copy& copy = CopyOf(access.block, tier);
  STRATA_CHECK(copy.is_present);
  STRATA_CHECK(access.mode == AccessMode::kWrite || IsCurrent(access.block, tier));
  if (access.mode == AccessMode::kRead) {
    copy.history.AppendWriter(deps);
    return;
  }
  copy.history.AppendAll(deps);
  StateOf(access.block).value.AppendAll(deps);
}

void Placement::RecordRun(const Access& access, Lane lane, NodeIndex node) {
  BlockState& state = StateOf(access.block);
  Copy& copy = CopyOf(access.block, TierOf(lane));
  copy.last_use = op_;
  MarkStale(access.block);
  if (access.mode == AccessMode::kRead) {
    copy.history.AddReader(node, lane);
    state.value.AddReader(node, lane);
    return;
  }
  ++state.version;
  copy.version = state.version;
  copy.history.SetWriter(node);
  state.value.SetWriter(node);
  Drop(access.block, OtherMemory(TierOf(lane)));
}

bool Placement::WriteBack(BlockId block, const Request& request) {
  Tier home = Describe(block).home;
  if (home != Tier::kNvme) return Bring(block, home, request);
  if (IsCurrentOnNvme(block)) return true;
  if (!Bring(block, Tier::kHost, request)) return false;
  Write(block);
  return true;
}

void Placement::Settle(BlockId block, size_t op) {
  BlockState& state = StateOf(block);
  state.next_read = future_.NextRead(block, op + 1);
  MarkStale(block);
  if (state.next_read != Future::kNever) return;
  for (Tier tier : kMemoryTiers) Drop(block, tier);
}

std::vector<CachedCopy> Placement::CachedCopies() const {
  std::vector<CachedCopy> cached;
  for (size_t i = 0; i < states_.size(); ++i) {
    BlockId block = static_cast<BlockId>(i);
    if (Describe(block).lifetime == Lifetime::kStep || !IsCurrentOnNvme(block)) continue;
    // One copy is enough: the nearer one.
    for (Tier tier : kMemoryTiers) {
      if (!IsCurrent(block, tier) || layout_.slots[i]) continue;
      const Copy& copy = CopyOf(block, tier);
      cached.push_back({.block = block, .slot = copy.slot, .since_op = copy.since_op});
      break;
    }
  }
  return cached;
}

}  // namespace strata::prefetch::internal
