// A saved state becomes that of this job's ranks.
#pragma once

#include <string>

#include "aio/base/status.h"
#include "engine/train/run_state.h"
#include "engine/train/saved_state.h"

namespace strata::engine {

// Of this rank: its part of every unit, as it is, written where it is at home. `what` is what
// people are told meanwhile. No more of the state is in memory than its homes there, two
// blocks in the staging, one where there is no room for two, and the pages of `saved`.
Status CopyState(const RunStateParts& parts, SavedState& saved, const std::string& what,
                 StateAccess& access);

// Commits it, by all ranks. It is no checkpoint, as that takes space and a place among those that
// are kept.
Status CommitCopiedState(const RunStateParts& parts, const RunProgress& progress, RunState& state);

}  // namespace strata::engine
