#include "engine/train/pending_search.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "prefetch/compile.h"
#include "prefetch/simulate.h"

namespace strata::engine {
namespace {

using prefetch::Lane;

constexpr uint64_t kShares = 8;  // that a budget is cut into
// Time that may be given for fewer bytes: well below the simulator's error.
constexpr double kSameTime = 0.01;
// In bytes read. Memory for gradients is taken from cached copies, which costs reads; writes are
// what wears a drive.
constexpr double kWorthOfWrittenByte = 2;

struct Candidate {
  PendingHomes homes;
  double step_s = 0;
  double weighted_bytes = 0;  // on nvme
};

// None: it does not fit.
std::optional<Candidate> Try(const PendingRoom& room, const PendingQuestion& question) {
  PendingHomes homes = PlacePending(room, *question.layout);
  Result<prefetch::StepPlan> plan =
      prefetch::Compile(question.make_program(homes).trace,
                        {.budgets = question.budgets, .prefetch_ops = question.prefetch_ops});
  if (!plan.ok()) return std::nullopt;
  const prefetch::Traffic traffic = prefetch::TrafficOf(*plan);
  auto bytes = [&](Lane lane) {
    return static_cast<double>(traffic.bytes_by_lane[static_cast<size_t>(lane)]);
  };
  return Candidate{
      .homes = std::move(homes),
      .step_s = prefetch::Simulate(*plan, *question.hardware).step_s,
      .weighted_bytes = bytes(Lane::kNvmeRead) + kWorthOfWrittenByte * bytes(Lane::kNvmeWrite)};
}

// Gives gradients more and more room in one tier, beside what they have in the other, and leaves
// `room` at the best. Appends what is better than `none_in_memory` to `found`.
void Widen(uint64_t PendingRoom::*tier, uint64_t budget_bytes, const Candidate& none_in_memory,
           const PendingQuestion& question, PendingRoom* room, std::vector<Candidate>* found) {
  PendingRoom best = *room;
  for (uint64_t share = 1; share < kShares; ++share) {
    PendingRoom wider = *room;
    wider.*tier = budget_bytes / kShares * share;
    std::optional<Candidate> candidate = Try(wider, question);
    if (!candidate) break;
    if (candidate->step_s > none_in_memory.step_s * (1 + kSameTime)) continue;
    double least = none_in_memory.weighted_bytes;
    for (const Candidate& other : *found) least = std::min(least, other.weighted_bytes);
    if (candidate->weighted_bytes < least) best = wider;
    if (candidate->weighted_bytes < none_in_memory.weighted_bytes)
      found->push_back(std::move(*candidate));
  }
  *room = best;
}

}  // namespace

std::vector<PendingHomes> PendingHomesWorthTaking(const PendingQuestion& question) {
  std::optional<Candidate> none_in_memory = Try({}, question);
  if (!none_in_memory) return {};
  std::vector<Candidate> found;
  PendingRoom room;
  Widen(&PendingRoom::device_bytes, question.budgets.device_bytes, *none_in_memory, question, &room,
        &found);
  Widen(&PendingRoom::host_bytes, question.budgets.host_bytes, *none_in_memory, question, &room,
        &found);
  std::ranges::stable_sort(found, {}, &Candidate::weighted_bytes);
  std::vector<PendingHomes> homes;
  for (Candidate& candidate : found) homes.push_back(std::move(candidate.homes));
  return homes;
}

}  // namespace strata::engine
