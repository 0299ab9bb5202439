// How the ranks of a job come to one run's directory.
#pragma once

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/config/run_config.h"
#include "engine/train/run_directory.h"
#include "engine/train/session.h"

namespace strata::engine {

struct OpenedRunDirectory {
  RunDirectory directory;
  bool is_new = false;  // there is nothing to resume
};

// Called by all ranks; succeeds or fails on all. To overwrite removes the run that is there first.
// The first rank's directory is the run's. A rank that does not see it, on another machine, makes
// one of the same name and run.
Result<OpenedRunDirectory> OpenRunDirectory(const RunConfig& config, SessionOptions::Start start,
                                            Communicator& communicator);

}  // namespace strata::engine
