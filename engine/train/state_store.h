// A rank's store among those of a run, and the way to the state in it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "aio/base/status.h"
#include "engine/train/run_state.h"
#include "engine/train/run_stores.h"

namespace strata::engine {

// Both give `state` its store, its access and what writes behind. Of this rank alone: whoever calls
// them agrees with the others.
Status CreateStateStore(const RunStateParts& parts, const StoreSet& set, RunState& state);
Status OpenStateStore(const RunStateParts& parts, const StoreSet& set, uint64_t generation,
                      RunState& state);

// Whether this job may go on from a state (CheckResumable).
Status CheckMayGoOn(const RunStateParts& parts, const RunRecord& record);

// Collective, as all below. Rank 0's list of the run's stores; none where there is none yet.
Result<std::optional<RunStores>> StoresOfRun(const RunStateParts& parts);
// Rank 0 writes it.
Status SaveStoresOfRun(const RunStateParts& parts, const RunStores& stores);
// The stores that this job would write beside all that `stores` knows.
StoreSet NextStores(const RunStateParts& parts, const std::optional<RunStores>& stores);
// Keeps other jobs out of all of them: each rank of some.
Result<std::vector<tiering::StoreHold>> HoldStores(const RunStateParts& parts, const StoreSet& set);
// Removes what is left over of the run on all machines, and then from the list. The current stores
// are held, or new: others who are at work on the run have leftovers that are in use.
Status RemoveLeftovers(const RunStateParts& parts, RunStores stores);

}  // namespace strata::engine
