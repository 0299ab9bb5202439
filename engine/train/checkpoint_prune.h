// Takes checkpoints away.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/train/checkpoint_list.h"

namespace strata::engine {

struct PruneOptions {
  std::string path;                   // a run's directory, or one of portable checkpoints
  std::optional<uint64_t> keep = {};  // so many of the newest stay; or
  std::vector<uint64_t> steps = {};   // these go
  bool dry_run = false;               // only say which
};

// Returns those that are gone. Of a run its newest state always stays, as it goes on from there;
// what is free then is free in the run's files, for its next checkpoints: the files keep their
// size. Of portable checkpoints the directories are removed, the manifest first: a crash leaves
// none that is half there. kFailedPrecondition, and nothing is taken, when the run is in use, or a
// step that is named must stay; kNotFound when it is not there.
Result<std::vector<CheckpointInfo>> PruneCheckpoints(const PruneOptions& options);

}  // namespace strata::engine
