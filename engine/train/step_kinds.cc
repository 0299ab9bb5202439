#include "engine/train/step_kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "engine/train/device_updates.h"
#include "engine/train/host_cache.h"
#include "engine/train/pending_search.h"
#include "engine/train/recompute.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"
#include "prefetch/verify.h"

namespace strata::engine {
namespace {

using prefetch::Budgets;
using prefetch::StepPlan;
using tiering::Tier;

// Ways are compared at one depth: finding the best depth of each takes ten times as long and
// hardly changes the order.
constexpr uint32_t kScoutDepth = 4;
// Of ways whose simulated times are this close the first one is taken.
constexpr double kSameTime = 0.02;
constexpr uint32_t kMostCalmSteps = 100;

bool AllOnNvme(const StateLayout& layout) {
  return std::ranges::all_of(layout.blocks,
                             [](const StateBlock& block) { return block.home == Tier::kNvme; });
}

void AddWays(StepKind kind, const PlannedRun& run, std::vector<StepWay>* ways) {
  if (run.layout.options.optimizer_home == Tier::kDevice) ways->push_back({kind, Tier::kDevice});
  ways->push_back({kind, Tier::kHost});
  ways->push_back({kind, Tier::kNvme});
}

Result<StepPlan> CompileAt(const prefetch::Trace& trace, const Budgets& budgets, uint32_t depth) {
  return prefetch::Compile(trace, {.budgets = budgets, .prefetch_ops = depth});
}

std::optional<uint32_t> GivenDepth(const PlannedRun& run) {
  if (!run.config.zero.prefetch_ops.has_value()) return {};
  return static_cast<uint32_t>(*run.config.zero.prefetch_ops);
}

std::map<std::string_view, prefetch::Slot> HomesOf(const StepPlan& plan) {
  std::map<std::string_view, prefetch::Slot> homes;
  for (const prefetch::Resident& resident : plan.residents)
    if (resident.is_home) homes[plan.trace.blocks[Index(resident.block)].name] = resident.slot;
  return homes;
}

// What is at home in memory is found there by the next step, whatever its kind.
Status CheckSameHomes(const std::vector<PlannedStep>& steps) {
  for (const PlannedStep& step : steps)
    if (HomesOf(step.plan) != HomesOf(steps.front().plan))
      return Internal(fmt::format("plans of {} and {} steps place homes differently; please report",
                                  StepKindName(step.program.kind),
                                  StepKindName(steps.front().program.kind)));
  return OkStatus();
}

// The main step at its best depth, the others at the same.
Result<std::vector<PlannedStep>> CompileKinds(StepKind main, const PendingHomes& pending_homes,
                                              const Budgets& budgets, const PlannedRun& run) {
  std::vector<PlannedStep> steps;
  std::optional<uint32_t> depth = GivenDepth(run);
  for (StepKind kind : KindsWith(main)) {
    PlannedStep step{.program = MakeProgramOf(run, kind, pending_homes)};
    Result<StepPlan> plan = depth
                                ? CompileAt(step.program.trace, budgets, *depth)
                                : prefetch::CompileBest(step.program.trace, budgets, run.hardware);
    if (!plan.ok()) return plan.status();
    step.plan = std::move(plan).value();
    depth = step.plan.prefetch_ops;
    STRATA_RETURN_IF_ERROR(
        prefetch::Verify(step.plan).With("the step plan is wrong; please report"));
    step.predicted = prefetch::Simulate(step.plan, run.hardware);
    step.bound = prefetch::BoundOf(step.plan, run.hardware);
    steps.push_back(std::move(step));
  }
  STRATA_RETURN_IF_ERROR(CheckSameHomes(steps));
  return steps;
}

// Simulated times of the ways' main steps, those that fit first and the fastest of them first.
std::vector<ClipAlternative> Scout(const std::vector<StepWay>& ways, const Budgets& budgets,
                                   const PlannedRun& run) {
  std::vector<ClipAlternative> found;
  for (const StepWay& way : ways) {
    StepProgram program = MakeProgramOf(run, way.kind, AllPendingIn(way.pending_home, run.layout));
    Result<StepPlan> plan =
        CompileAt(program.trace, budgets, GivenDepth(run).value_or(kScoutDepth));
    std::optional<double> step_s;
    if (plan.ok()) step_s = prefetch::Simulate(*plan, run.hardware).step_s;
    found.push_back({way.kind, way.pending_home, step_s});
  }
  // Insertion keeps the given order among those of about the same time.
  std::vector<ClipAlternative> sorted;
  for (const ClipAlternative& one : found) {
    auto is_slower = [&](const ClipAlternative& other) {
      if (!one.step_s || !other.step_s) return one.step_s.has_value();
      return *other.step_s > *one.step_s * (1 + kSameTime);
    };
    sorted.insert(std::ranges::find_if(sorted, is_slower), one);
  }
  return sorted;
}

// Of the way that would be taken with the homes as they are; none when none fits or is allowed.
std::optional<double> ScoutedSeconds(const Budgets& budgets, const PlannedRun& run) {
  Result<std::vector<StepWay>> ways = AllowedWays(run);
  return ways.ok() ? Scout(*ways, budgets, run).front().step_s : std::nullopt;
}

void Take(std::vector<PlannedStep> steps, PlannedRun& run) {
  run.program = std::move(steps.front().program);
  run.plan = std::move(steps.front().plan);
  run.predicted = std::move(steps.front().predicted);
  run.bound = std::move(steps.front().bound);
  steps.erase(steps.begin());
  run.further_steps = std::move(steps);
  if (run.program.kind != StepKind::kSpeculative) return;
  if (run.config.train.clip_calm_steps) {
    run.calm_steps = static_cast<uint32_t>(*run.config.train.clip_calm_steps);
    return;
  }
  run.calm_steps =
      CalmSteps(run.predicted.step_s, StepOf(run, StepKind::kDeferred).predicted.step_s,
                StepOf(run, StepKind::kFlush).predicted.step_s);
}

// [train] recompute = "auto", for a run that is planned with everything recomputed. Keeps what pays
// in its main step, if then all of its steps fit.
Status KeepWhatPays(const Budgets& budgets, PlannedRun& run) {
  const StepKind kind = run.program.kind;
  auto make_program = [&](uint32_t units) {
    run.num_keeping_units = units;
    return MakeProgramOf(run, kind, run.pending_homes);
  };
  uint32_t count = UnitsWorthKeeping(
      {.layout = &run.layout,
       .model = run.model.get(),
       .num_micro_batches = static_cast<uint32_t>(run.config.train.gradient_accumulation_steps),
       .budgets = budgets,
       .hardware = &run.hardware,
       .recomputing = &run.plan,
       .make_program = make_program});
  run.num_keeping_units = count;
  if (count == 0) return OkStatus();
  Result<std::vector<PlannedStep>> steps = CompileKinds(kind, run.pending_homes, budgets, run);
  if (!steps.ok()) {
    run.num_keeping_units = 0;
    return steps.status().code() == Code::kResourceExhausted ? OkStatus() : steps.status();
  }
  Take(std::move(steps).value(), run);
  return OkStatus();
}

// For a run that is planned with all kept gradients at home on nvme: brings those into memory that
// fit and pay.
Status MovePendingToMemory(const Budgets& budgets, PlannedRun& run) {
  const StepKind kind = run.program.kind;
  auto make_program = [&](const PendingHomes& homes) { return MakeProgramOf(run, kind, homes); };
  for (PendingHomes& homes : PendingHomesWorthTaking({.layout = &run.layout,
                             .budgets = budgets,
                             .hardware = &run.hardware,
                             .prefetch_ops = run.plan.prefetch_ops,
                             .make_program = make_program})) {
    Result<std::vector<PlannedStep>> steps = CompileKinds(kind, homes, budgets, run);
    if (!steps.ok() && steps.status().code() == Code::kResourceExhausted) continue;
    if (!steps.ok()) return steps.status();
    if (steps->front().predicted.step_s > run.predicted.step_s * (1 + kSameTime)) continue;
    run.pending_homes = std::move(homes);
    Take(std::move(steps).value(), run);
    break;
  }
  return OkStatus();
}

// [train] tile: the most parts at once that fit, or one at a time where that is faster, as it may
// be where memory is tight.
void ChooseTile(const Budgets& budgets, PlannedRun& run) {
  if (run.config.train.tile) return;
  uint32_t most = 1;
  for (const Sublayer& sublayer : run.layout.sublayers) most = std::max(most, sublayer.num_parts);
  auto seconds_with = [&](uint32_t parts) {
    run.parts_per_op = parts;
    return ScoutedSeconds(budgets, run);
  };
  uint32_t parts = most;
  std::optional<double> seconds;
  while (parts > 1 && !(seconds = seconds_with(parts))) parts /= 2;
  if (parts > 1) {
    const std::optional<double> one_by_one = seconds_with(1);
    if (one_by_one && *one_by_one * (1 + kSameTime) < *seconds) parts = 1;
  }
  run.parts_per_op = parts;
}

// With the tiles that are chosen.
Status CompileTiled(const Budgets& budgets, PlannedRun& run) {
  if (!run.config.zero.host_cache_bytes)
    run.host_cache_bytes = PlaceBestHostCache(
        budgets.host_bytes, [&] { return ScoutedSeconds(budgets, run); }, run.layout);
  if (!run.config.zero.cpu_update_ratio) {
    run.num_device_updates = BestDeviceUpdates(run.layout, [&](uint32_t count) {
      run.num_device_updates = count;
      return ScoutedSeconds(budgets, run);
    });
  }
  STRATA_ASSIGN_OR_RETURN(std::vector<StepWay> ways, AllowedWays(run));
  if (ways.size() > 1) {
    run.clip_alternatives = Scout(ways, budgets, run);
    for (size_t i = 0; i < ways.size(); ++i)
      ways[i] = {run.clip_alternatives[i].kind, run.clip_alternatives[i].pending_home};
  }
  Status failure;
  for (const StepWay& way : ways) {
    run.pending_homes = AllPendingIn(way.pending_home, run.layout);
    Result<std::vector<PlannedStep>> steps =
        CompileKinds(way.kind, run.pending_homes, budgets, run);
    if (steps.ok()) {
      Take(std::move(steps).value(), run);
      if (run.config.train.recompute == Recompute::kAuto)
        STRATA_RETURN_IF_ERROR(KeepWhatPays(budgets, run));
      const bool is_on_nvme = KeepsGradients(way.kind) && way.pending_home == Tier::kNvme;
      return is_on_nvme ? MovePendingToMemory(budgets, run) : OkStatus();
    }
    failure = steps.status();
    if (failure.code() != Code::kResourceExhausted) return failure;
  }
  return failure;
}

}  // namespace

Result<std::vector<StepWay>> AllowedWays(const PlannedRun& run) {
  const TrainConfig& train = run.config.train;
  // An fp16 step may turn out to have overflowed, so its updates are like those that may be
  // clipped.
  const bool may_take_back = train.gradient_clipping > 0 || train.precision == Precision::kFp16;
  if (!may_take_back) return std::vector<StepWay>{{StepKind::kInBackward}};
  const bool wants_any = train.clip_mode == ClipMode::kAuto;
  if (train.clip_mode == ClipMode::kSpeculative && !AllOnNvme(run.layout))
    return InvalidArgument(
        "[train] clip_mode = \"speculative\" takes updates back by going back to the last commit, "
        "and with state at home in memory not every step commits: set offload_param.device and "
        "offload_optimizer.device to \"nvme\", or clip_mode to \"auto\" or \"deferred\"");
  std::vector<StepWay> ways;
  if ((wants_any && AllOnNvme(run.layout)) || train.clip_mode == ClipMode::kSpeculative)
    AddWays(StepKind::kSpeculative, run, &ways);
  if (wants_any || train.clip_mode == ClipMode::kDeferred) AddWays(StepKind::kDeferred, run, &ways);
  if (wants_any || train.clip_mode == ClipMode::kNormFirst) ways.push_back({StepKind::kAfterNorm});
  return ways;
}

std::vector<StepKind> KindsWith(StepKind main) {
  switch (main) {
    case StepKind::kSpeculative:
      return {main, StepKind::kDeferred, StepKind::kFlush};
    case StepKind::kDeferred:
      return {main, StepKind::kKeep, StepKind::kFlush};
    default:
      return {main};
  }
}

StepProgram MakeProgramOf(const PlannedRun& run, StepKind kind, const PendingHomes& pending_homes) {
  const TrainConfig& train = run.config.train;
  return MakeStepProgram(
      run.layout, *run.model,
      {.num_micro_batches = static_cast<uint32_t>(train.gradient_accumulation_steps),
       .schedule = train.schedule == MicroBatchSchedule::kVertical ? Schedule::kVertical
                                                                   : Schedule::kHorizontal,
       .num_keeping_units = run.num_keeping_units,
       .parts_per_op = run.parts_per_op,
       .kind = kind,
       .pending_homes = pending_homes,
       .num_device_updates = run.num_device_updates,
       .communication = DTypeOf(*train.communication_data_type)});
}

Status CompileSteps(const Budgets& budgets, PlannedRun& run) {
  ChooseTile(budgets, run);
  Status status = CompileTiled(budgets, run);
  // What fits at the scouts' depth and without a cache may not fit in the end.
  while (status.code() == Code::kResourceExhausted && !run.config.train.tile &&
         run.parts_per_op > 1) {
    run.parts_per_op /= 2;
    status = CompileTiled(budgets, run);
  }
  return status;
}

uint32_t CalmSteps(double speculative_s, double deferred_s, double flush_s) {
  const double gain_s = deferred_s - speculative_s;
  if (gain_s <= 0) return kMostCalmSteps;
  const double steps = std::ceil(2 * flush_s / gain_s);
  return static_cast<uint32_t>(std::clamp<double>(steps, 1, kMostCalmSteps));
}

}  // namespace strata::engine
