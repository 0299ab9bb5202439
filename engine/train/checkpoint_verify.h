// Reads checkpoints, all of them, and compares every checksum.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "aio/base/status.h"
#include "engine/train/checkpoint_list.h"

namespace strata::engine {

struct VerifyCheckpointsOptions {
  std::string path;              // as ListCheckpoints() takes it
  std::optional<uint64_t> step;  // none: all that there are
  // Told of each thing that is broken: which file, what of it, where.
  std::function<void(const CheckpointInfo& checkpoint, const Status& what)> on_damage;
  std::function<void(const CheckpointInfo& checkpoint, uint64_t done_bytes, uint64_t total_bytes)>
      on_progress;
};

struct VerifySummary {
  uint64_t checkpoints = 0;
  uint64_t bytes = 0;    // that were read
  uint64_t damages = 0;  // that were told of
};

// Beside a run that trains, too. A state that not all ranks of a run have is damage, unless it is
// what a job was about to commit when it ended. Fails itself only when there is nothing to check:
// kNotFound names the steps that there are.
Result<VerifySummary> VerifyCheckpoints(const VerifyCheckpointsOptions& options);

}  // namespace strata::engine
