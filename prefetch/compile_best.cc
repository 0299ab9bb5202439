#include <fmt/format.h>

#include <array>
#include <optional>

#include "aio/base/units.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"

namespace strata::prefetch {
namespace {

constexpr std::array<uint32_t, 10> kDepths = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24};

Status NameSmallest(const Trace& trace, const Budgets& budgets, const Status& failure) {
  if (failure.code() != Code::kResourceExhausted) return failure;
  Result<Budgets> smallest = SmallestBudgets(trace, budgets);
  if (!smallest.ok()) return failure;
  return ResourceExhausted(fmt::format("{}; the smallest budgets that fit are device {}, host {}",
                                       failure.message(), FormatBytes(smallest->device_bytes),
                                       FormatBytes(smallest->host_bytes)));
}

}  // namespace

Result<StepPlan> CompileBest(const Trace& trace, const Budgets& budgets, const Hardware& hardware) {
  std::optional<StepPlan> best;
  double best_step_s = 0;
  for (uint32_t depth : kDepths) {
    Result<StepPlan> plan = Compile(trace, {.budgets = budgets, .prefetch_ops = depth});
    if (!plan.ok()) return NameSmallest(trace, budgets, plan.status());
    if (plan->prefetch_ops != depth) continue;  // it is one that we have seen
    double step_s = Simulate(*plan, hardware).step_s;
    if (best && step_s >= best_step_s) continue;
    best = std::move(*plan);
    best_step_s = step_s;
  }
  return std::move(*best);
}

}  // namespace strata::prefetch
