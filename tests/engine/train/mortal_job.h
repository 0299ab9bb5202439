// A training job that dies after so many moments, in a process of its own.
//
// For a program of its own, as its system calls are (mortality.h), and without threads when a job
// begins, as that forks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/train/session.h"

namespace strata::engine {

inline constexpr uint64_t kForever = UINT32_MAX;

struct Life {
  bool ended_well = false;
  uint64_t state_hash = 0;   // 0: it died before
  uint64_t num_moments = 0;  // that it had
};

// `train` trains with engines of CreateMortalEngine and returns the hash of the last state.
Life LiveFor(uint64_t num_moments, const std::function<uint64_t()>& train);
Result<std::unique_ptr<aio::IoEngine>> CreateMortalEngine(const aio::IoEngineOptions& real);

// How many moments of a job are tried, of the hundreds that it has: STRATA_DEATHS, or 12. All take
// minutes.
uint64_t NumDeaths();

}  // namespace strata::engine
