// A job whose ranks are threads of this process, on as many machines as a test wants, with messages
// that arrive late and are read where they were sent from, as long messages are.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/comm/communicator.h"

namespace strata::engine {

struct ThreadWorld {
  std::vector<uint32_t> machines;  // by rank: the first rank of its machine
  CommunicatorOptions options = {};
};

// So many ranks on each machine.
ThreadWorld MachinesOf(const std::vector<uint32_t>& num_ranks);

// Runs `body` in a thread for each rank, with the rank's communicator, and waits for all.
void RunRanks(const ThreadWorld& world, const std::function<void(Communicator&)>& body);

}  // namespace strata::engine
