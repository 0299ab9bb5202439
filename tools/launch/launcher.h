// `strata launch`: starts the ranks of a job, shows what they print, stops them together.
#pragma once

#include <string>

#include "tools/launch/job.h"
#include "tools/launch/wishes.h"

namespace strata::launch {

// Runs the job; its exit code: the first failed rank's, 128 + signal after a signal.
int RunJob(const Job& job, const Arguments& arguments, const std::string& version);

// What RunJob() would run, per node: for people, and as JSON. Of this machine's ranks with the
// cores that they would have.
std::string DescribeDryRun(const Job& job, const ReadRunNeeds& read_needs);
std::string DryRunToJson(const Job& job, const ReadRunNeeds& read_needs);

}  // namespace strata::launch
