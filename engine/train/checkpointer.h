// Decides when a generation is committed, which are kept, and writes what people see of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/config/run_config.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/train/state_access.h"
#include "tiering/block_store.h"

namespace strata::engine {

// Thread-compatible; between steps only. The parts outlive it.
class Checkpointer {
 public:
  // `committed_step`: the step whose state the store's newest generation holds, if any.
  Checkpointer(const RunConfig& config, bool commits_every_step,
               std::optional<uint64_t> committed_step, const RunDirectory& directory,
               tiering::BlockStore& store, StateAccess& state)
      : config_(config.checkpoint),
        total_steps_(config.train.steps),
        commits_every_step_(commits_every_step),
        committed_step_(committed_step),
        directory_(directory),
        store_(store),
        state_(state) {}

  // After `record.step` steps: commits if this step is a checkpoint or every step commits. `force`
  // commits whatever the step, unless it is committed already: the first state, or a run that is
  // being stopped.
  enum class Force : uint8_t { kNo, kYes };
  Status AfterStep(const RunRecord& record, Force force);

  // Brings pins and checkpoints/ to what keep_last says, whatever a kill left half done: before the
  // first step of a resumed run.
  Status Reconcile();

 private:
  bool IsCheckpoint(uint64_t step) const;
  Status Commit(const RunRecord& record, bool pin);
  Result<std::vector<tiering::Generation>> ReleaseOld();
  Status ShowCheckpoint(const RunRecord& record, uint64_t generation);

  CheckpointConfig config_;
  uint64_t total_steps_;
  bool commits_every_step_;
  std::optional<uint64_t> committed_step_;
  const RunDirectory& directory_;
  tiering::BlockStore& store_;
  StateAccess& state_;
};

}  // namespace strata::engine
