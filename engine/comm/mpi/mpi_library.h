// The MPI library's life in this process: it can be started and ended once.
#pragma once

#include <mpi.h>

#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "engine/comm/rank_environment.h"

namespace strata::engine {

// Ok, or what the library says about `code`.
Status MpiStatus(int code, std::string_view what);

// Starts it, if it does not run yet, and counts a user. It ends with the process, when nobody uses
// it any more and it is not broken: ending it waits for all ranks.
Status StartMpi(const RankEnvironment& environment);
void LeaveMpi();
void SetMpiBroken();
bool IsMpiBroken();

std::string DescribeMpiLibrary();  // "Open MPI v4.1.4"

}  // namespace strata::engine
