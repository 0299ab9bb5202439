// State that is at home on nvme by its configuration, but has its place in host memory across
// steps: [zero_optimization.offload_optimizer] host_cache. It saves the reads and writes of every
// step, and is written at checkpoints only: a crash goes back to the last one.
#pragma once

#include <cstdint>
#include <functional>

#include "aio/base/status.h"
#include "engine/zero/state_layout.h"
#include "engine/zero/step_program.h"
#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"

namespace strata::engine {

// Gives the state of whole units its home in host memory, those that the forward pass needs first
// first, as long as they fit in `bytes`; all others go back to the homes that the layout's options
// say. Sets the homes in `layout` and in `program`. Returns the bytes that have their place now.
//
// Those units are updated last in backward, when less and less is left to hide their reads and
// writes behind.
uint64_t PlaceHostCache(uint64_t bytes, StateLayout& layout, StepProgram& program);

struct HostCacheTrial {
  const prefetch::Hardware* hardware = nullptr;
  prefetch::Budgets budgets;
  // Compiles `program` as it is, as well as can be.
  std::function<Result<prefetch::StepPlan>()> compile;
};

// Finds the smallest host cache that makes the simulated step about as short as any does, places
// it, and compiles. None when none helps: it would cost the durability of single steps for nothing.
// Fails as `compile` does without a cache. `placed_bytes` as PlaceHostCache() returns it.
Result<prefetch::StepPlan> CompileWithBestHostCache(const HostCacheTrial& trial,
                                                    StateLayout& layout, StepProgram& program,
                                                    uint64_t& placed_bytes);

}  // namespace strata::engine
