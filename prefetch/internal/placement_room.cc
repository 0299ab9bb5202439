// How Placement finds room: what a copy is worth, and what happens to it when it must go.
#include <algorithm>

#include "aio/base/check.h"
#include "prefetch/internal/placement.h"

namespace strata::prefetch::internal {
namespace {

// What moving a byte costs on each way, relative to the others.
constexpr double kCopyWeight = 1;
constexpr double kNvmeWeight = 4;
// A block that is nowhere else must be written before it can go, and is read again: two transfers,
// of which the write wears the drive.
constexpr double kSpillWeight = 8 * kNvmeWeight;

// Of what a copy is worth that nobody will find: not quite nothing, so that what is free goes
// first.
constexpr double kInVain = 1e-6;

// By how much the same allocation may move between two plannings of a step.
constexpr size_t kSlackOps = 4;

}  // namespace

bool Placement::Allocate(BlockId block, Tier tier, const Request& request) {
  shortage_ = {tier, block};
  TellWorths();
  std::optional<Range> range = ArenaOf(tier).Find(SearchFor(block, tier, request));
  if (!range) return false;
  for (BlockId tenant : ArenaOf(tier).TenantsOf(*range))
    if (!Evict(tenant, tier, request)) return false;
  SlotHistory history = ArenaOf(tier).Take(*range, block);
  Slot slot{.tier = tier, .offset_bytes = range->offset_bytes, .size_bytes = range->size_bytes};
  Occupy(block, slot, op_);
  CopyOf(block, tier).history = std::move(history);
  return true;
}

Search Placement::SearchFor(BlockId block, Tier tier, const Request& request) const {
  size_t settled_ops = prefetch_ops_ + 2;
  Search search{.size_bytes = SlotBytes(Describe(block)),
                .op = op_,
                .keep_until = request.keep_until,
                .choice = request.choice,
                .reserve_bytes = request.reserve_bytes[static_cast<size_t>(tier)],
                .ready_op = op_ - std::min(op_, settled_ops)};
  if (!start_slots_[static_cast<size_t>(tier)].empty())
    search.toll = [=, this, near = size_t{0}](const Range& range) mutable {
      return Toll(range, block, tier, &near);
    };
  PreferStart(block, tier, &search);
  return search;
}

void Placement::MarkStale(BlockId block) {
  BlockState& state = StateOf(block);
  if (!state.is_stale) stale_.push_back(block);
  state.is_stale = true;
}

void Placement::TellWorths() {
  for (BlockId block : stale_) {
    StateOf(block).is_stale = false;
    for (Tier tier : kMemoryTiers) {
      const Copy& copy = CopyOf(block, tier);
      if (copy.is_present && !copy.is_fixed)
        ArenaOf(tier).SetWorth(copy.slot.offset_bytes, WorthOf(block, tier));
    }
  }
  stale_.clear();
}

// The worth of a byte that stays: what fetching it again costs, over the time until that is needed.
// Of a block that can be read again only as many bytes count as are wanted, as the rest is room for
// the next: else one that must be written first would go because it is smaller. That one counts
// whole, as it is written whole.
Worth Placement::WorthOf(BlockId block, Tier tier) const {
  const BlockState& state = StateOf(block);
  const Copy& copy = CopyOf(block, tier);
  const double weight = MoveWeight(block, tier);
  return {.may_go = copy.pins == 0,
          .per_byte = IsInVain(block, copy) ? weight * kInVain : weight,
          .next_read = state.next_read,
          .counts_whole = weight >= kSpillWeight,
          .last_use = copy.last_use};
}

// Only what ends the step where it started it is there for the next one. Where nothing was there
// when the step started, that is still to be found, and all is worth its place.
bool Placement::IsInVain(BlockId block, const Copy& copy) const {
  bool is_in_place = copy.at_start && copy.at_start->slot == copy.slot;
  return starts_warm_ && !is_in_place && IsCurrentOnNvme(block) &&
         StateOf(block).next_read >= trace_.ops.size();
}

double Placement::MoveWeight(BlockId block, Tier tier) const {
  if (IsCurrent(block, OtherMemory(tier))) return kCopyWeight;
  if (tier == Tier::kDevice)
    return IsCurrentOnNvme(block) ? kNvmeWeight + kCopyWeight : kNvmeWeight + 2 * kCopyWeight;
  if (IsCurrentOnNvme(block)) return kNvmeWeight;
  return IsHome(Describe(block), Tier::kDevice) ? 2 * kCopyWeight : kSpillWeight;
}

// What it saves in the next step that a block is back in its place when this one ends.
double Placement::WorthOfReturn(const StartSlot& slot) const {
  double ops_until_read = static_cast<double>(slot.first_read - op_);
  return static_cast<double>(slot.range.size_bytes) * kNvmeWeight / ops_until_read;
}

// `since_op` tells when, the last time this step was planned, the copy came that stayed.
void Placement::PreferStart(BlockId block, Tier tier, Search* search) const {
  const Copy& copy = CopyOf(block, tier);
  if (!copy.at_start || op_ + prefetch_ops_ + kSlackOps < copy.at_start->since_op) return;
  search->preferred_offset_bytes = copy.at_start->slot.offset_bytes;
  search->preferred_gain = WorthOfReturn(start_slots_[static_cast<size_t>(tier)][copy.start_slot]);
}

// What `block` would spoil in `range` if it is still in use when others come back there.
double Placement::Toll(const Range& range, BlockId block, Tier tier, size_t* near) const {
  const StartSlots& slots = start_slots_[static_cast<size_t>(tier)];
  size_t& first = *near;  // the first slot that ends behind the range's start
  while (first > 0 && slots[first - 1].range.end_bytes() > range.offset_bytes) --first;
  while (first < slots.size() && slots[first].range.end_bytes() <= range.offset_bytes) ++first;
  const size_t over_op = future_.LastUse(block) + prefetch_ops_;
  double toll = 0;
  for (size_t i = first; i < slots.size() && slots[i].range.offset_bytes < range.end_bytes(); ++i) {
    const bool is_gone_by_then = over_op < slots[i].since_op;
    if (slots[i].is_away && slots[i].block != block && !is_gone_by_then)
      toll += WorthOfReturn(slots[i]);
  }
  return toll;
}

void Placement::Occupy(BlockId block, const Slot& slot, size_t for_op) {
  Copy& copy = CopyOf(block, slot.tier);
  copy.is_present = true;
  copy.version = kNoVersion;
  copy.slot = slot;
  copy.since_op = for_op;
  copy.last_use = op_;
  if (copy.at_start) StartSlotOf(block, slot.tier).is_away = false;
  MarkStale(block);
  usages_[static_cast<size_t>(slot.tier)].Add(Describe(block).purpose, slot.offset_bytes,
                                              slot.size_bytes);
}

bool Placement::Evict(BlockId block, Tier tier, const Request& request) {
  if (IsCurrent(block, tier) && !IsCurrentElsewhere(block, tier)) {
    if (tier == Tier::kDevice || IsHome(Describe(block), Tier::kDevice)) {
      if (!HaveSlot(block, OtherMemory(tier), request)) return false;
      CopyAcross(block, tier);
    } else {
      Write(block);
    }
  }
  Drop(block, tier);
  return true;
}

void Placement::Drop(BlockId block, Tier tier) {
  Copy& copy = CopyOf(block, tier);
  if (!copy.is_present || copy.is_fixed) return;
  ArenaOf(tier).Free(copy.slot.offset_bytes, std::move(copy.history), copy.last_use);
  usages_[static_cast<size_t>(tier)].Remove(Describe(block).purpose, copy.slot.size_bytes);
  copy.is_present = false;
  copy.version = kNoVersion;
  copy.history = SlotHistory();
  if (copy.at_start) StartSlotOf(block, tier).is_away = true;
  MarkStale(block);
}

bool Placement::Clear(Tier tier, const Request& request) {
  ArenaMap& arena = ArenaOf(tier);
  size_t index = static_cast<size_t>(tier);
  for (BlockId tenant : arena.TenantsOf({layout_.fixed_bytes[index], arena.capacity_bytes()})) {
    STRATA_CHECK(CopyOf(tenant, tier).pins == 0);
    if (!Evict(tenant, tier, request)) return false;
  }
  return true;
}

}  // namespace strata::prefetch::internal
