// Checkpoints of state that is at home in memory, without a stall and without a copy: each block is
// written from where it is, into a pending commit, beside the next step.
//
// The next step overwrites the blocks one by one. It waits before the first op that overwrites a
// block which is still to be written, and that block is written next. All others go out in the
// order in which the step is going to overwrite them, so that it rarely waits.
//
// A block at home on the device passes through the staging of StateAccess; once it is there, the
// device's may be overwritten.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "aio/base/status.h"
#include "engine/train/state_access.h"
#include "engine/zero/state_layout.h"
#include "prefetch/trace.h"
#include "tiering/block_store.h"

namespace strata::engine {

// Start() and Finish() on the thread that takes the steps, in turns; AwaitWritable() on any. What
// it is created with outlives it.
class WriteBehind {
 public:
  // `trace`: of the step, for the order. kResourceExhausted where its thread cannot be started; it
  // has none when all state is at home on nvme.
  static Result<std::unique_ptr<WriteBehind>> Create(const StateLayout& layout,
                                                     const prefetch::Trace& trace,
                                                     StateAccess& state);
  ~WriteBehind();

  // Begins to write all state that is at home in memory, as it is now, into `commit`, which is not
  // to be finished or destroyed before Finish().
  void Start(tiering::PendingCommit* commit);
  // Waits until nothing of what `op` overwrites is still to be written. Fails if the writing has,
  // as what would be overwritten is lost to the checkpoint then.
  Status AwaitWritable(const prefetch::TraceOp& op);
  // Waits until all is written. The first failure, if there was one.
  Status Finish();

  // For how long ops waited since this was last asked.
  double TakeWaitedSeconds();

 private:
  struct InFlight {
    uint32_t block = 0;
    tiering::StoreTicket ticket;
  };

  WriteBehind(const StateLayout& layout, const prefetch::Trace& trace, StateAccess& state);
  void Work();
  void WriteAll();
  std::optional<uint32_t> NextBlock();
  bool IsToBeWritten(const prefetch::TraceOp& op) const;
  bool IsStateInMemory(prefetch::BlockId block) const;
  Status Write(uint32_t block, std::deque<InFlight>& window);
  Status FinishOldest(std::deque<InFlight>& window);
  void Done(uint32_t block);
  void End(const Status& status);

  const StateLayout& layout_;
  StateAccess& state_;
  std::vector<uint32_t> order_;  // blocks at home in memory, as a step overwrites them

  std::atomic<bool> is_writing_ = false;  // for those that need not wait
  mutable std::mutex mutex_;              // guards the fields below
  std::condition_variable changed_;
  tiering::PendingCommit* commit_ = nullptr;  // while there is something to write
  std::vector<bool> to_be_written_;           // by block
  std::vector<bool> is_taken_;                // by block: it is being written
  std::deque<uint32_t> wanted_;
  Status status_;
  bool quit_ = false;
  double waited_s_ = 0;

  std::jthread thread_;
};

}  // namespace strata::engine
