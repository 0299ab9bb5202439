// Whole runs on several ranks, for tests: the ranks are threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/engine/comm/thread_world.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {

struct Job {
  uint32_t world = 1;
  int stage = 3;
  std::string weights = "nvme";
  std::string optimizer = "nvme";
  int steps = 3;
  std::vector<std::string> more = {};
};

std::string Describe(const Job& job);

// Eight sequences a step whatever the world, one at a time.
RunConfig ConfigOf(const std::string& directory, const Job& job);

// What every rank saw.
std::vector<Result<RunOutcome>> TrainRanks(
    const ThreadWorld& world, const RunConfig& config,
    SessionOptions::Start start = SessionOptions::Start::kNew, uint64_t stop_after = UINT64_MAX);

// Of rank 0, after a look at that all ranks agree.
RunOutcome Outcome(const Job& job, const std::string& directory, SessionOptions::Start start,
                   uint64_t stop_after = UINT64_MAX);
// In a directory of its own.
RunOutcome Outcome(const Job& job);

}  // namespace strata::engine
