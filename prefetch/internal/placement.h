// Where every block is at one point of the plan, and the nodes that change it.
//
// Invariant: of every block that has a value, at least one place holds its current version: a copy
// in device memory, one in host memory, or nvme. Copies of older versions are dropped when the new
// one is written; only a home slot keeps its place.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "prefetch/internal/arena_map.h"
#include "prefetch/internal/future.h"
#include "prefetch/internal/layout.h"
#include "prefetch/internal/sequence.h"
#include "prefetch/internal/usage.h"

namespace strata::prefetch::internal {

// For whom memory is wanted, and what may be given up for it.
struct Request {
  size_t for_op = 0;
  // Copies whose next read is at this op or before stay. Unset: only pinned ones do.
  std::optional<uint64_t> keep_until = {};
  std::array<uint64_t, kNumMemoryTiers> reserve_bytes{};  // must be left to free or evict
  Choice choice = Choice::kReadiest;
};

// A copy of a block at home on nvme that outlives the step.
struct CachedCopy {
  BlockId block{};
  Slot slot = {};
  size_t since_op = 0;  // when it came to stay
};

// The last allocation that failed.
struct Shortage {
  Tier tier = Tier::kHost;
  BlockId block{};
};

class Placement {
 public:
  // All references outlive it.
  Placement(const Trace& trace, const Layout& layout, const Future& future, uint32_t prefetch_ops);

  // Cached copies from the step before. Before the first op only.
  void StartWith(const std::vector<CachedCopy>& cached);
  // Later transfers are planned while `op` is the next to run; with `gate` they wait for that node.
  void StartOp(size_t op, std::optional<NodeIndex> gate);

  // Puts the current version into `tier`. False: no room, see shortage(); nothing is lost.
  bool Bring(BlockId block, Tier tier, const Request& request);
  // Gives the block a slot there, whatever it holds.
  bool HaveSlot(BlockId block, Tier tier, const Request& request);
  bool HasSlot(BlockId block, Tier tier) const { return CopyOf(block, tier).is_present; }
  // A pinned copy is not evicted.
  void Pin(BlockId block, Tier tier) {
    ++CopyOf(block, tier).pins;
    MarkStale(block);
  }
  void Unpin(BlockId block, Tier tier) {
    --CopyOf(block, tier).pins;
    MarkStale(block);
  }
  // Empties a tier but for what is fixed there. Nothing may be pinned.
  bool Clear(Tier tier, const Request& request);

  // Runs an op whose operands all have their slots.
  NodeIndex Run(OpId op);
  // After the op that writes a persistent block last: brings the value home.
  bool WriteBack(BlockId block, const Request& request);
  // Forgets what is not needed after `op`.
  void Settle(BlockId block, size_t op);

  // Copies that the next step could start with: clean, current, of blocks at home on nvme.
  std::vector<CachedCopy> CachedCopies() const;
  const Shortage& shortage() const { return shortage_; }
  const Usage& usage(Tier tier) const { return usages_[static_cast<size_t>(tier)]; }
  std::vector<Node> TakeNodes() && { return std::move(sequence_).TakeNodes(); }

 private:
  static constexpr uint32_t kNoVersion = UINT32_MAX;

  struct Copy {
    bool is_present = false;
    bool is_fixed = false;
    uint32_t version = kNoVersion;
    uint32_t pins = 0;
    size_t since_op = 0;  // that it was allocated for
    size_t last_use = 0;  // op
    Slot slot;
    SlotHistory history;
    std::optional<CachedCopy> at_start;
    size_t start_slot = 0;  // index into start_slots_, if it was there at the start
  };
  struct BlockState {
    bool is_stale = false;  // its copies' worth is not what the arenas know
    uint32_t version = 0;
    uint32_t nvme_version = kNoVersion;
    uint64_t next_read = 0;
    std::array<Copy, kNumMemoryTiers> copies;
    std::optional<NodeIndex> last_nvme_node;  // the store does one thing at a time per block
    SlotHistory value;                        // by ops, wherever they found it
  };

  const TraceBlock& Describe(BlockId block) const { return trace_.blocks[Index(block)]; }
  BlockState& StateOf(BlockId block) { return states_[Index(block)]; }
  const BlockState& StateOf(BlockId block) const { return states_[Index(block)]; }
  Copy& CopyOf(BlockId block, Tier tier) {
    return StateOf(block).copies[static_cast<size_t>(tier)];
  }
  const Copy& CopyOf(BlockId block, Tier tier) const {
    return StateOf(block).copies[static_cast<size_t>(tier)];
  }
  ArenaMap& ArenaOf(Tier tier) { return arenas_[static_cast<size_t>(tier)]; }

  bool IsCurrent(BlockId block, Tier tier) const;
  bool IsCurrentOnNvme(BlockId block) const;
  bool IsCurrentElsewhere(BlockId block, Tier tier) const;

  void PlaceFixed(const Layout& layout);
  bool BringToHost(BlockId block, const Request& request);
  bool BringToDevice(BlockId block, const Request& request);
  bool Allocate(BlockId block, Tier tier, const Request& request);
  Search SearchFor(BlockId block, Tier tier, const Request& request) const;
  // Whatever changes a block or a copy of it marks it; before a search the arenas are told.
  void MarkStale(BlockId block);
  void TellWorths();
  Worth WorthOf(BlockId block, Tier tier) const;
  double MoveWeight(BlockId block, Tier tier) const;
  void PreferStart(BlockId block, Tier tier, Search* search) const;
  // `near`: where the last answer was found, from which the next is not far.
  double Toll(const Range& range, BlockId block, Tier tier, size_t* near) const;
  bool IsInVain(BlockId block, const Copy& copy) const;
  void Occupy(BlockId block, const Slot& slot, size_t for_op);
  bool Evict(BlockId block, Tier tier, const Request& request);
  void Drop(BlockId block, Tier tier);

  void Read(BlockId block);
  void Write(BlockId block);
  void CopyAcross(BlockId block, Tier from);
  NodeIndex AddTransfer(Node node, std::vector<NodeIndex> deps);
  void AppendOperandDeps(const Access& access, Tier tier, std::vector<NodeIndex>* deps) const;
  void RecordRun(const Access& access, Lane lane, NodeIndex node);

  const Trace& trace_;
  const Layout& layout_;
  const Future& future_;
  uint32_t prefetch_ops_;
  size_t op_ = 0;
  std::optional<NodeIndex> gate_;
  Sequence sequence_;
  std::array<ArenaMap, kNumMemoryTiers> arenas_;
  std::array<Usage, kNumMemoryTiers> usages_;
  // Whose place it is when the step starts, and shall be when it ends. By offset.
  struct StartSlot {
    Range range;
    BlockId block{};
    size_t since_op = 0;
    uint64_t first_read = 0;  // of the next step
    bool is_away = false;
  };
  using StartSlots = std::vector<StartSlot>;
  StartSlot& StartSlotOf(BlockId block, Tier tier) {
    return start_slots_[static_cast<size_t>(tier)][CopyOf(block, tier).start_slot];
  }
  double WorthOfReturn(const StartSlot& slot) const;

  std::array<StartSlots, kNumMemoryTiers> start_slots_;
  bool starts_warm_ = false;
  std::vector<BlockState> states_;
  std::vector<BlockId> stale_;
  Shortage shortage_;
};

}  // namespace strata::prefetch::internal
