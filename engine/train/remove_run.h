// What is taken away of a run.
#pragma once

#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/config/run_config.h"
#include "engine/train/run_stores.h"

namespace strata::engine {

// All stores that a run may have: those that its directory names, and those where it would look for
// them now. Of a directory that holds no run those alone.
std::vector<StoreSet> AllStoresOf(const RunConfig& config);

// The files of all ranks that are to be seen from here. kFailedPrecondition when one is in use.
Status RemoveStores(std::string_view run_id, const std::vector<StoreSet>& sets);

// What this machine has of the run in run_dir: its blocks in these stores, then its files. Ok where
// there is none. kFailedPrecondition when it is in use.
Status RemoveRun(const RunConfig& config, const std::vector<StoreSet>& sets);

}  // namespace strata::engine
