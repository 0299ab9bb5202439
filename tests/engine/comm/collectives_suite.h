// What collectives promise, as checks that every rank of a job runs at once. Used over threads and
// over MPI. Each compares with what all ranks can compute on their own: a plain loop in rank order.
#pragma once

#include <cstdint>

#include "engine/comm/communicator.h"

namespace strata::engine {

// Each kind once, at sizes from none to several rows, with payloads where they are shared and where
// they are not.
void CheckEveryCollective(Communicator& communicator);

// Random ones, on two channels at once from two threads.
void CheckRandomSequences(Communicator& communicator, uint64_t seed, int num_collectives);

// What is counted is what theory says: (N-1)/N of the payload each way.
void CheckTraffic(Communicator& communicator);

}  // namespace strata::engine
