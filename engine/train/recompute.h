// What backward recomputes and what forward keeps: the choice of [train] recompute = "auto".
#pragma once

#include <cstdint>
#include <functional>

#include "engine/model/llama.h"
#include "engine/zero/state_layout.h"
#include "engine/zero/step_program.h"
#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"

namespace strata::engine {

// Attention and mlp sublayers: what there is to recompute or to keep.
uint32_t NumLayerUnits(const StateLayout& layout);

struct RecomputeQuestion {
  const StateLayout* layout = nullptr;
  const LlamaModel* model = nullptr;
  uint32_t num_micro_batches = 1;
  prefetch::Budgets budgets;
  const prefetch::Hardware* hardware = nullptr;
  const prefetch::StepPlan* recomputing = nullptr;  // the best plan that keeps nothing
  std::function<StepProgram(uint32_t num_keeping_units)> make_program;
};

// How many of the last units shall keep their intermediates, so that the simulated step is fastest:
// all whose intermediates device and host could hold, half of them, or none; some only where that
// is faster than none by more than the simulator's error.
uint32_t UnitsWorthKeeping(const RecomputeQuestion& question);

}  // namespace strata::engine
