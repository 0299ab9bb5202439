// What the ranks of a job do together between steps: agree, tell each other, choose.
//
// All of it on the control channel; every rank calls the same functions in the same order. With one
// rank nothing is exchanged.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"

namespace strata::engine {

// Threads for one rank: one that is bound to cores has those; of others each has its share of the
// machine's.
uint64_t ThreadsPerRank(const Communicator& communicator);

// Ok where `mine` is ok on every rank. Else a rank's own failure is its own, and the others get the
// first failed rank's, with its number.
Status AgreeOn(Communicator& communicator, const Status& mine);

// Does something once on each machine: first on rank 0's, for machines that share what it is done
// to. Ok where it is ok on all of them.
Status OnEachMachine(Communicator& communicator, const std::function<Status()>& what);

// What rank 0 says.
Result<std::string> FromRankZero(Communicator& communicator, std::string_view text);

// Whether it is so on any rank.
Result<bool> OnAnyRank(Communicator& communicator, bool is_so);

// Each rank's numbers, by rank.
Result<std::vector<std::vector<uint64_t>>> FromAllRanks(Communicator& communicator,
                                                        const std::vector<uint64_t>& numbers);

// kFailedPrecondition on all ranks when a text is not the same on all: names the first rank that
// differs from rank 0, and the first line that does.
Status CheckSame(Communicator& communicator, std::string_view what, std::string_view text);

}  // namespace strata::engine
