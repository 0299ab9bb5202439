// The launcher of a per-node start's other nodes: registers with node 0, runs mpirun's daemon for
// it, ends as the job ends.
#pragma once

#include "tools/launch/job.h"
#include "tools/launch/job_output.h"
#include "tools/launch/messages.h"
#include "tools/launch/secret.h"

namespace strata::launch {

// The job's exit code. `hello` is what node 0 compares with its own.
int Follow(const Job& job, const NodeHello& hello, const Secret& secret);

}  // namespace strata::launch
