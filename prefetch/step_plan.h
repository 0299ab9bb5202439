// A training step, compiled: every read, write, copy and operation in one global sequence, with its
// dependencies and its slots.
//
// Dependencies only point backwards in the sequence, and each lane issues its own nodes in that
// order, so there is no deadlock by construction. A slot's next tenant depends on the last users of
// the bytes it takes over, so reuse is in the graph and not in locks. A step starts when the one
// before has ended, with the residents in their slots.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "prefetch/trace.h"

namespace strata::prefetch {

struct Budgets {
  uint64_t device_bytes = 0;
  uint64_t host_bytes = 0;
};

// A place in the arena of the device or host tier, in multiples of tiering::kSlotAlignmentBytes.
struct Slot {
  Tier tier = Tier::kHost;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;

  friend bool operator==(const Slot&, const Slot&) = default;
};

enum class NodeKind : uint8_t {
  kRead,     // nvme -> host slot `to`      lane nvme-read
  kWrite,    // host slot `from` -> nvme    lane nvme-write
  kCopyIn,   // host `from` -> device `to`  lane h2d
  kCopyOut,  // device `from` -> host `to`  lane d2h
  kRun,      // op                          the op's lane
};

using NodeIndex = uint32_t;

struct Node {
  NodeKind kind = NodeKind::kRun;
  Lane lane = Lane::kCompute;
  std::vector<NodeIndex> deps = {};  // earlier nodes that must be done; sorted, unique

  // Transfers. `version` counts the writes to the block in this step so far: 0 is its value at the
  // start of the step.
  BlockId block{};
  uint32_t version = 0;
  Slot from = {};
  Slot to = {};

  // kRun: one slot per access of the op, in its order, and the lane's workspace if it has one.
  OpId op{};
  std::vector<Slot> operands = {};
  std::optional<Slot> workspace = {};
};

// A block that is in a slot when the step starts and, with its then current value, when it ends:
// at home there, or a cached copy of a block at home on nvme (loaded once before the first step).
struct Resident {
  BlockId block{};
  Slot slot = {};
  bool is_home = false;
};

struct StepPlan {
  Trace trace;
  Budgets budgets;
  std::vector<Node> nodes;
  std::vector<Resident> residents;
  uint32_t prefetch_ops = 0;  // as it was compiled

  // For people.
  uint64_t peak_device_bytes = 0;  // highest end of any slot in use at a time, workspaces included
  uint64_t peak_host_bytes = 0;
  // At each tier's fullest moment, by purpose ("workspace" for the lanes' scratch).
  std::array<std::map<std::string, uint64_t>, 2> peak_by_purpose;  // [Tier::kDevice, Tier::kHost]
};

// Bytes moved by one step, slot padding included.
struct Traffic {
  std::array<uint64_t, kNumLanes> bytes_by_lane{};
  std::map<std::string, uint64_t> nvme_read_by_purpose;
  std::map<std::string, uint64_t> nvme_written_by_purpose;
};
Traffic TrafficOf(const StepPlan& plan);

// Step blocks that the plan writes to nvme: the store's scratch blocks.
std::vector<BlockId> SpilledBlocks(const StepPlan& plan);

// "read layers.3.mlp/w", "run backward layers.3.mlp micro=0".
std::string NodeName(const StepPlan& plan, NodeIndex node);

}  // namespace strata::prefetch
