#include "engine/train/recompute.h"

#include "prefetch/compile.h"
#include "prefetch/simulate.h"

namespace strata::engine {
namespace {

constexpr double kWorthIt = 0.98;  // of the time of the plan that keeps nothing

// If nothing else were in memory.
uint32_t UnitsThatFit(const RecomputeQuestion& question) {
  uint64_t left_bytes = question.budgets.device_bytes + question.budgets.host_bytes;
  const size_t head = question.layout->sublayers.size() - 1;
  const uint32_t all = NumLayerUnits(*question.layout);
  for (uint32_t count = 0; count < all; ++count) {
    UnitKind kind = question.layout->sublayers[head - 1 - count].kind;
    uint64_t bytes = question.num_micro_batches * question.model->KeptBytes(kind);
    if (bytes > left_bytes) return count;
    left_bytes -= bytes;
  }
  return all;
}

}  // namespace

uint32_t NumLayerUnits(const StateLayout& layout) {
  return static_cast<uint32_t>(layout.sublayers.size()) - 2;  // all but embedding and head
}

uint32_t UnitsWorthKeeping(const RecomputeQuestion& question) {
  const prefetch::StepPlan& recomputing = *question.recomputing;
  const uint32_t most = UnitsThatFit(question);
  double fastest_s = kWorthIt * prefetch::Simulate(recomputing, *question.hardware).step_s;
  uint32_t best = 0;
  for (uint32_t count : {most, most / 2}) {
    if (count == 0) break;
    Result<prefetch::StepPlan> plan =
        prefetch::Compile(question.make_program(count).trace,
                          {.budgets = question.budgets, .prefetch_ops = recomputing.prefetch_ops});
    if (!plan.ok()) continue;
    double step_s = prefetch::Simulate(*plan, *question.hardware).step_s;
    if (step_s >= fastest_s) continue;
    fastest_s = step_s;
    best = count;
  }
  return best;
}

}  // namespace strata::engine
