// State that is at home on nvme by its configuration, but has its place in host memory across
// steps: [zero_optimization.offload_optimizer] host_cache. It saves the reads and writes of every
// step, and is written at checkpoints only: a crash goes back to the last one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "engine/zero/state_layout.h"

namespace strata::engine {

// Gives the state of whole units its home in host memory, those that the forward pass needs first
// first, as long as they fit in `bytes`; all others go back to the homes that the layout's options
// say. Sets the homes in `layout`. Returns the bytes that have their place now.
//
// Those units are updated last in backward, when less and less is left to hide their reads and
// writes behind.
uint64_t PlaceHostCache(uint64_t bytes, StateLayout& layout);

// Finds the smallest host cache within a host budget that makes the simulated step about as short
// as any does, places it, and returns its bytes. None when none helps: it would cost the durability
// of single steps for nothing. `step_seconds`: of the layout as it is; none when that does not fit.
uint64_t PlaceBestHostCache(uint64_t host_bytes,
                            const std::function<std::optional<double>()>& step_seconds,
                            StateLayout& layout);

}  // namespace strata::engine
