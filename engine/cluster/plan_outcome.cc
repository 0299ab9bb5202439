#include "engine/cluster/plan_outcome.h"

#include <algorithm>

#include "prefetch/compile.h"

namespace strata::engine {
namespace {

using prefetch::Budgets;
using prefetch::Lane;

uint64_t Beyond(uint64_t needed, uint64_t there) { return needed > there ? needed - there : 0; }

Budgets BudgetsOf(const PlannedRun& run) {
  const MemoryConfig& memory = run.config.memory;
  return {.device_bytes = memory.device_bytes,
          .host_bytes = Beyond(memory.host_bytes, run.staging_bytes)};
}

// The plan that asks for least.
Result<prefetch::StepPlan> SmallestPlan(const PlannedRun& run) {
  return prefetch::Compile(run.program.trace,
                           {.budgets = BudgetsOf(run), .prefetch_ops = 0, .kept_host_bytes = 0});
}

uint64_t StoreBytes(const PlannedRun& run) {
  return tiering::StoreCapacityBytes(run.store_blocks, run.num_generations);
}

uint64_t NvmeStateBytes(const PlannedRun& run) {
  uint64_t bytes = 0;
  for (const StateBlock& block : run.layout.blocks) {
    if (block.home == tiering::Tier::kNvme) bytes += block.size_bytes();
  }
  return bytes;
}

Status AddShortage(const PlannedRun& run, PlanOutcome& outcome) {
  const MemoryConfig& memory = run.config.memory;
  STRATA_ASSIGN_OR_RETURN(Budgets smallest,
                          prefetch::SmallestBudgets(run.program.trace, BudgetsOf(run)));
  outcome.device_bytes = smallest.device_bytes;
  outcome.host_bytes = smallest.host_bytes + run.staging_bytes;
  outcome.device_short_bytes = Beyond(outcome.device_bytes, memory.device_bytes);
  outcome.host_short_bytes = Beyond(outcome.host_bytes, memory.host_bytes);
  // The least is looked for in steps; where it comes out as there is, one more is missing.
  if (outcome.fits_memory()) outcome.device_short_bytes = 1;
  return OkStatus();
}

void AddPlan(const PlannedRun& run, uint64_t nvme_capacity_bytes, PlanOutcome& outcome) {
  const TrainConfig& train = run.config.train;
  prefetch::Traffic traffic = prefetch::TrafficOf(run.plan);
  outcome.device_bytes = run.plan.peak_device_bytes;
  outcome.host_bytes = run.plan.peak_host_bytes + run.staging_bytes;
  outcome.step_s = run.predicted.step_s;
  outcome.tokens_per_s =
      static_cast<double>(train.train_batch_size * run.config.data.seq_len) / outcome.step_s;
  outcome.bound_s = run.bound.seconds;
  outcome.bound_resource = run.bound.resource;
  outcome.comm_bytes_sent =
      static_cast<uint64_t>(BytesSent(run.program, static_cast<uint32_t>(train.world_size)));
  outcome.nvme_bytes_read = traffic.bytes_by_lane[static_cast<size_t>(Lane::kNvmeRead)];
  outcome.nvme_bytes_written = traffic.bytes_by_lane[static_cast<size_t>(Lane::kNvmeWrite)];
  if (outcome.nvme_bytes_read + outcome.nvme_bytes_written == 0) return;
  outcome.nvme_bytes = StoreBytes(run);
  outcome.nvme_short_bytes = Beyond(outcome.nvme_bytes, nvme_capacity_bytes);
}

}  // namespace

Result<PlanOutcome> TryPlan(const RunConfig& config, const prefetch::Hardware& hardware,
                            uint64_t nvme_capacity_bytes) {
  STRATA_ASSIGN_OR_RETURN(PlannedRun run, PrepareRun(config));
  PlanOutcome outcome;
  outcome.choice = ChoiceOf(config);
  Result<prefetch::StepPlan> smallest = SmallestPlan(run);
  if (!smallest.ok()) {
    if (smallest.status().code() != Code::kResourceExhausted) return smallest.status();
    STRATA_RETURN_IF_ERROR(AddShortage(run, outcome));
    return outcome;
  }
  STRATA_RETURN_IF_ERROR(CompileRun(hardware, run));
  AddPlan(run, nvme_capacity_bytes, outcome);
  return outcome;
}

Result<bool> Fits(const RunConfig& config, uint64_t nvme_capacity_bytes) {
  STRATA_ASSIGN_OR_RETURN(PlannedRun run, PrepareRun(config));
  // What is spilled is little beside the state, and known only once the best plan is.
  uint64_t versions = config.checkpoint.keep_last + 2;
  if (NvmeStateBytes(run) * versions > nvme_capacity_bytes) return false;
  Result<prefetch::StepPlan> smallest = SmallestPlan(run);
  if (smallest.ok()) return nvme_capacity_bytes > 0 || prefetch::SpilledBlocks(*smallest).empty();
  if (smallest.status().code() == Code::kResourceExhausted) return false;
  return smallest.status();
}

}  // namespace strata::engine
