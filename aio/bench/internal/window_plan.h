// How many requests of how many blocks keep an engine busy.
#pragma once

#include <cstdint>

#include "aio/bench/aio_setting.h"

namespace strata::aio {

struct WindowPlan {
  uint64_t blocks_per_slot = 1;
  uint64_t num_slots = 1;

  uint64_t blocks() const { return blocks_per_slot * num_slots; }
};

// All that the engine may have in flight, and one request that it goes on with while the submitting
// thread prepares the next. Not more than `max_blocks` at a time.
WindowPlan PlanWindow(const AioSetting& setting, uint64_t max_blocks);

}  // namespace strata::aio
