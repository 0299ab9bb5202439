// Ranks that are told different things go different ways, and hang in the end: so they compare.
#pragma once

#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"

namespace strata::engine {

// Called by all ranks, on kControl. kFailedPrecondition, the same on all of them, unless all have
// the same text: names a rank and the first line that differs, with the "[section]" above it, as in
// TOML.
Status CheckSameOnAllRanks(Communicator& communicator, std::string_view what,
                           std::string_view text);

}  // namespace strata::engine
