// A run's state comes to other ranks, another stage, or other drives.
#pragma once

#include <optional>

#include "aio/base/status.h"
#include "engine/train/run_state.h"
#include "engine/train/run_stores.h"

namespace strata::engine {

// Collective. Writes the newest state that all old ranks have, element by element as it is, into
// new stores of this job's ranks, each its own part; makes those the run's; removes the old ones.
// Until then the old ones stay as they are: a failure or a crash leaves the run with one of the
// two, and a resume goes on from it. No more of the state is in memory than the homes of the new
// plan, two blocks in the staging and a few pages.
//
// None when the run never had a state. kFailedPrecondition when its state is not to be seen from
// here, is in use, or is not one that this configuration goes on from; kDataLoss when a block of it
// is damaged; kResourceExhausted when there is no space for both.
Result<std::optional<RunState>> MoveState(const RunStateParts& parts, RunStores stores);

}  // namespace strata::engine
