// The communicator of a rank among others, over a Transport.
#pragma once

#include <memory>

#include "engine/comm/communicator.h"
#include "engine/comm/internal/transport.h"

namespace strata::engine {

// Called by all ranks; blocks until all have.
Result<std::unique_ptr<Communicator>> MakeRankedCommunicator(std::unique_ptr<Transport> transport,
                                                             const CommunicatorOptions& options);

}  // namespace strata::engine
