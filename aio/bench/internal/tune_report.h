// What a race showed: the winner, and every candidate's fate.
#pragma once

#include "aio/bench/internal/race.h"
#include "aio/bench/tune.h"

namespace strata::aio::bench_internal {

TuneReport ReportOf(const Race& race, const TuneOptions& options);

}  // namespace strata::aio::bench_internal
