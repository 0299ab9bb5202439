// Runs a step plan on the real lanes: device streams, the store's reads and writes, the cpu lane.
//
// Each lane issues its nodes in plan order, each node as soon as its dependencies are done.
// Dependencies between two device lanes stay on the device (DeviceStream::WaitFor). The first
// failure stops the step: nothing new is issued, what is under way is waited for, and the failure
// is the step's status, with the node's name before it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "prefetch/step_plan.h"
#include "prefetch/timeline.h"
#include "tiering/arena.h"
#include "tiering/block_store.h"
#include "tiering/device.h"

namespace strata::prefetch {

// The memory of one op: its blocks in the order of its accesses, each exactly size_bytes long.
struct Operands {
  std::span<const std::span<std::byte>> blocks;
  std::span<std::byte> workspace;
};

// Does an op. Compute and comm ops: called as DeviceStream::Launch says; cpu ops: on the cpu lane's
// thread, done when it returns.
using RunOp =
    std::function<Status(OpId op, const Operands& operands, const tiering::StreamContext& stream)>;

struct ExecutorParts {
  tiering::Device* device = nullptr;
  const tiering::Arena* host = nullptr;
  tiering::BlockStore* store = nullptr;  // may be null when no node touches nvme
  // By BlockId: its number in the store; only looked at for blocks that nodes read or write there.
  std::vector<tiering::StoreBlock> store_blocks;
  RunOp run;
};

struct ExecutorOptions {
  uint32_t io_nodes_in_flight = 8;  // per nvme lane
};

// How steps get on, for who watches over them.
struct StepProgress {
  uint64_t nodes_ended = 0;    // of all steps so far
  uint32_t lanes_working = 0;  // in a step: those whose next node waits for no other node
};

// Thread-compatible, but for the two functions that say otherwise. Owns a thread per lane while it
// lives; plan and parts outlive it. An operation that never ends is waited for, by RunStep() and by
// the destructor: who must not hang watches, and ends the process.
class Executor {
 public:
  Executor(const StepPlan& plan, ExecutorParts parts, const ExecutorOptions& options);
  ~Executor();

  // Loads the cached residents (not those at home in memory) from the store.
  Status Prime();
  // One step. After a failure the executor is used up (CHECKed).
  Result<Timeline> RunStep();

  // On any thread.
  StepProgress progress() const;
  // On any thread: the node that each lane of the step is at and what that waits for, first those
  // that wait for no other node: "lane nvme-read: read layers.3.mlp/m (node 812) waits for the
  // drive; lane cpu: run update layers.3.mlp (node 820) waits for read layers.3.mlp/m (node 812)".
  std::string DescribeLanes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::prefetch
