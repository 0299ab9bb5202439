// Decides when a generation is committed, which are kept, and writes what people see of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/config/run_config.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/train/write_behind.h"
#include "tiering/block_store.h"

namespace strata::engine {

// A checkpoint of state that is at home in memory is begun after its step, and written beside the
// next one; it is valid once that has ended. Until then a crash goes back to the one before. With
// all state at home on nvme there is nothing to write: it is valid at once.
//
// With several ranks a commit is valid once every rank has it, and a crash may come when some have
// it and some do not: so each rank keeps the one before, pinned, until all have the next.
//
// Thread-compatible; between steps only. The parts outlive it. Destroyed with a checkpoint begun,
// it waits for its writes and forgets it.
class Checkpointer {
 public:
  // `committed_step`: the step whose state the store's newest generation holds, if any.
  Checkpointer(const RunConfig& config, bool commits_every_step,
               std::optional<uint64_t> committed_step, const RunDirectory& directory,
               tiering::BlockStore& store, WriteBehind& behind, Communicator& communicator)
      : config_(config.checkpoint),
        total_steps_(config.train.steps),
        commits_every_step_(commits_every_step),
        committed_step_(committed_step),
        directory_(directory),
        store_(store),
        behind_(behind),
        communicator_(communicator) {}
  ~Checkpointer();

  // After `record.step` steps: finishes the checkpoint before, then begins one if this step is a
  // checkpoint or every step commits; the last step's is finished at once. `force` commits whatever
  // the step, unless it is committed already, and at once: the first state, or a run that is being
  // stopped.
  enum class Force : uint8_t { kNo, kYes };
  Status AfterStep(const RunRecord& record, Force force);
  // After a step that failed: finishes the checkpoint before it if that can be, and returns the
  // failure.
  Status AfterFailure(Status failure);

  // Brings pins and checkpoints/ to what keep_last says, whatever a kill left half done: before the
  // first step of a resumed run.
  Status Reconcile();

 private:
  bool IsCheckpoint(uint64_t step) const;
  bool has_ranks() const { return communicator_.world_size() > 1; }
  bool is_first() const { return communicator_.rank() == 0; }
  Status Begin(const RunRecord& record, bool pin);
  Status Finish();
  Status FinishTheOneBefore();
  Status FinishCommit(const RunRecord& record);
  struct Kept {
    uint64_t generation = 0;
    RunRecord record;
  };
  Result<std::vector<Kept>> ReleaseOld();
  Status ShowCheckpoint(const RunRecord& record, uint64_t generation);

  CheckpointConfig config_;
  uint64_t total_steps_;
  bool commits_every_step_;
  std::optional<uint64_t> committed_step_;
  const RunDirectory& directory_;
  tiering::BlockStore& store_;
  WriteBehind& behind_;
  Communicator& communicator_;
  std::unique_ptr<tiering::PendingCommit> pending_;
  RunRecord pending_record_;
  bool pins_pending_ = false;
};

}  // namespace strata::engine
