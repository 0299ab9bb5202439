#include "prefetch/internal/steady_state.h"

#include <algorithm>
#include <map>
#include <utility>

namespace strata::prefetch::internal {
namespace {

// So many rounds to find what comes back of itself; then it is forced, by giving up half in each.
constexpr size_t kPatientRounds = 12;
// A step of many nodes is not planned again as often: what it starts with is then little of what
// passes through. In all rounds together so many nodes.
constexpr size_t kMostNodes = 400'000;

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

// A step that starts with nothing cached tells what could be there when it ends. Planned again with
// that, what does not come back to its place is given up, until all does. It ends, at the latest
// with nothing left: the step as it was.
SteadyStep SteadyStateFinder::WithWarmStart(uint32_t prefetch_ops, SteadyStep cold) const {
  std::vector<CachedCopy> start = cold.step.cached;
  const size_t most_rounds = kMostNodes / std::max<size_t>(cold.step.nodes.size(), 1);
  const size_t patient_rounds = std::min(kPatientRounds, most_rounds / 2);
  for (size_t round = 0; !start.empty() && round < most_rounds; ++round) {
    Result<PlannedStep> warm =
        StepPlanner(trace_, cold.layout, future_, prefetch_ops, start).Plan();
    std::vector<CachedCopy> both = warm.ok() ? InBoth(start, warm->cached) : start;
    if (warm.ok() && both.size() == start.size())
      return SteadyStep{std::move(cold.layout), std::move(*warm), std::move(start)};
    if (!warm.ok() || round >= patient_rounds) both.resize(both.size() / 2);
    start = std::move(both);
  }
  return cold;
}

}  // namespace strata::prefetch::internal
