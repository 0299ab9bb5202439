// One number for a whole training state: equal numbers, equal state, bit for bit.
//
// It is a sum of hashes of groups of 64 elements, each with its unit and place, so it does not show
// how the state is cut into blocks and shards, in which order it is read, where it is at home, or
// by how many ranks: each counts what is its own, and the numbers of all ranks are added. Masters
// are hashed as fp32 whatever they are stored as, so that formats fp32 and split agree.
#pragma once

#include <cstdint>
#include <functional>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/train/state_access.h"
#include "engine/zero/state_layout.h"

namespace strata::engine {

struct StateHashes {
  uint64_t weights = 0;  // weights and masters
  uint64_t all = 0;      // and m and v; of int8 their codes

  StateHashes& operator+=(const StateHashes& other) {
    weights += other.weights;
    all += other.all;
    return *this;
  }
};

// Of this rank's own part of the state, where others have it, too. Reads all it has once.
Result<StateHashes> HashState(
    const StateLayout& layout, uint32_t rank, StateAccess& state,
    const std::function<void(uint64_t done, uint64_t total)>& on_progress);

// Of the whole state. Called by all ranks, each with its own part's.
Result<StateHashes> SumOverRanks(Communicator& communicator, const StateHashes& own);

}  // namespace strata::engine
