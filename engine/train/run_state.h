// A run's state, opened or made: what stands between a plan and the first step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/comm/communicator.h"
#include "engine/train/planning.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/train/saved_state.h"
#include "engine/train/session.h"
#include "engine/train/state_access.h"
#include "engine/train/write_behind.h"
#include "tiering/arena.h"
#include "tiering/block_store.h"
#include "tiering/device.h"

namespace strata::engine {

struct RunState {
  std::unique_ptr<tiering::BlockStore> store;
  std::unique_ptr<StateAccess> access;
  std::unique_ptr<WriteBehind> behind;
  RunProgress progress;
};

struct RunStateParts {
  const PlannedRun* run = nullptr;
  const RunDirectory* directory = nullptr;
  tiering::Device* device = nullptr;
  const tiering::Arena* host = nullptr;
  aio::IoEngine* engine = nullptr;
  SessionObserver* observer = nullptr;
  Communicator* communicator = nullptr;
  uint64_t data_fingerprint = 0;
};

// Both are called by all ranks, and succeed or fail on all of them.

// The newest state that every rank has committed, with what is at home in memory loaded; none when
// the run never had one. Where other ranks have committed it, at another stage or on another
// nvme_path, it is moved (move_state.h). kFailedPrecondition when the run had one that is not to be
// found (a drive that is not mounted), or has one that this configuration cannot go on from.
Result<std::optional<RunState>> OpenRunState(const RunStateParts& parts);

// What a new run begins with: one of the two.
struct FirstState {
  WeightSource* weights = nullptr;  // and an optimizer that has seen nothing
  SavedState* saved = nullptr;      // this state exactly, with its step, data position, loss scale
};
// Makes the store and writes the first state; commits it.
Result<RunState> CreateRunState(const RunStateParts& parts, const FirstState& first);

}  // namespace strata::engine
