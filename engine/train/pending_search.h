// Which kept gradients are at home in memory, where the host's is too small for all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/zero/pending_homes.h"
#include "engine/zero/step_program.h"
#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"

namespace strata::engine {

struct PendingQuestion {
  const StateLayout* layout = nullptr;
  prefetch::Budgets budgets;
  const prefetch::Hardware* hardware = nullptr;
  uint32_t prefetch_ops = 0;  // of the best plan with all of them on nvme
  std::function<StepProgram(const PendingHomes&)> make_program;
};

// Homes with some units' gradients in memory, the best first: simulated steps that are not slower
// than with all of them on nvme, and move fewer bytes, where one written counts as much as two
// read. First on the device, whose cached copies save the least, then in host memory, too.
std::vector<PendingHomes> PendingHomesWorthTaking(const PendingQuestion& question);

}  // namespace strata::engine
