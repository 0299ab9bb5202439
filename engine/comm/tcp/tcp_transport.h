// Messages between ranks over TCP: what takes MPI's place where the ranks were not started under
// it (torchrun, a shell, Kubernetes).
//
// A connection between every two ranks. What crosses it is neither encrypted nor sealed, as with
// MPI and NCCL: it is for networks that one trusts.
#pragma once

#include <chrono>
#include <memory>

#include "engine/comm/internal/transport.h"
#include "engine/comm/rank_environment.h"

namespace strata::engine {

// Meets the other ranks at MASTER_ADDR, on environment.control_port; fails as MeetOverTcp() does.
Result<std::unique_ptr<Transport>> JoinOverTcp(const RankEnvironment& environment,
                                               std::chrono::milliseconds deadline);

}  // namespace strata::engine
