#include "prefetch/internal/steady_state.h"

#include <map>
#include <utility>

namespace strata::prefetch::internal {
namespace {

constexpr int kFreeRounds = 1;
constexpr int kMaxRounds = 8;

// What is in the same slot at both ends of the step.
std::vector<CachedCopy> InBoth(const std::vector<CachedCopy>& start,
                               const std::vector<CachedCopy>& end) {
  std::map<BlockId, Slot> at_end;
  for (const CachedCopy& copy : end) at_end[copy.block] = copy.slot;
  std::vector<CachedCopy> both;
  for (const CachedCopy& copy : start)
    if (auto found = at_end.find(copy.block); found != at_end.end() && found->second == copy.slot)
      both.push_back(copy);
  return both;
}

}  // namespace

Result<SteadyStep> SteadyStateFinder::Find(uint32_t prefetch_ops,
                                           const std::vector<BlockId>& kept) const {
  STRATA_ASSIGN_OR_RETURN(Layout layout, LayOut(trace_, budgets_, kept));
  STRATA_ASSIGN_OR_RETURN(PlannedStep step,
                          StepPlanner(trace_, layout, future_, prefetch_ops, {}).Plan());
  return WithWarmStart(prefetch_ops, {std::move(layout), std::move(step), {}});
}

// The first rounds let the step find its own steady state; then what does not come back is given
// up, until all does.
SteadyStep SteadyStateFinder::WithWarmStart(uint32_t prefetch_ops, SteadyStep cold) const {
  std::vector<CachedCopy> start = cold.step.cached;
  for (int round = 0; round < kMaxRounds && !start.empty(); ++round) {
    Result<PlannedStep> warm =
        StepPlanner(trace_, cold.layout, future_, prefetch_ops, start).Plan();
    if (!warm.ok()) break;
    std::vector<CachedCopy> both = InBoth(start, warm->cached);
    if (both.size() == start.size())
      return SteadyStep{std::move(cold.layout), std::move(*warm), std::move(start)};
    start = round < kFreeRounds ? std::move(warm->cached) : std::move(both);
  }
  return cold;
}

}  // namespace strata::prefetch::internal
