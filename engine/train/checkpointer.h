// Decides when a generation is committed, which are kept, and writes what people see of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

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
  Checkpointer(const CheckpointConfig& config, uint64_t total_steps, bool commits_every_step,
               const RunDirectory& directory, tiering::BlockStore& store, StateAccess& state)
      : config_(config),
        total_steps_(total_steps),
        commits_every_step_(commits_every_step),
        directory_(directory),
        store_(store),
        state_(state) {}

  // After `record.step` steps: commits if this step is a checkpoint or every step commits. `force`
  // commits whatever the step, unless it is committed already: the first state, or a run that is
  // being stopped.
  enum class Force : uint8_t { kNo, kYes };
  Status AfterStep(const RunRecord& record, Force force);

 private:
  bool IsCheckpoint(uint64_t step) const;
  Status Commit(const RunRecord& record, bool pin);
  Status ReleaseOld();

  CheckpointConfig config_;
  uint64_t total_steps_;
  bool commits_every_step_;
  const RunDirectory& directory_;
  tiering::BlockStore& store_;
  StateAccess& state_;
  std::optional<uint64_t> committed_step_;
};

}  // namespace strata::engine
