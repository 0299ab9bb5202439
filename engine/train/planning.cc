#include "engine/train/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "aio/base/units.h"
#include "engine/kernels/cpu_kernels.h"
#include "engine/train/host_cache.h"
#include "engine/train/recompute.h"
#include "prefetch/compile.h"
#include "prefetch/simulate.h"
#include "prefetch/verify.h"
#include "tiering/arena.h"

namespace strata::engine {
namespace {

using prefetch::Budgets;
using prefetch::StepPlan;
using tiering::Tier;

Tier TierOf(OffloadDevice device) {
  switch (device) {
    case OffloadDevice::kNone:
      return Tier::kDevice;
    case OffloadDevice::kCpu:
      return Tier::kHost;
    case OffloadDevice::kNvme:
      return Tier::kNvme;
  }
  return Tier::kDevice;
}

Status CheckSupported(const RunConfig& config) {
  const uint64_t stage = config.zero.stage;
  const bool updates_part = config.train.world_size > 1 && (stage == 1 || stage == 2);
  if (updates_part && config.train.precision == Precision::kFp32) {
    return Unimplemented(fmt::format(
        "[zero_optimization] stage = {} on {} ranks with precision fp32: set stage = 3, or "
        "precision = \"bf16\"",
        stage, config.train.world_size));
  }
  return OkStatus();
}

uint32_t ResolveThreads(const RunConfig& config) {
  if (config.train.threads > 0) return static_cast<uint32_t>(config.train.threads);
  return std::max(1u, std::thread::hardware_concurrency());
}

// One block at a time; or a unit's weights and one more, whose two halves make its masters.
uint64_t StagingBytes(const StateLayout& layout) {
  uint64_t largest = 0;
  uint64_t weights = 0;  // of the unit, while its other blocks follow
  for (const StateBlock& block : layout.blocks) {
    if (block.home != Tier::kDevice) continue;
    uint64_t bytes = RoundUp(block.size_bytes(), tiering::kSlotAlignmentBytes);
    if (block.kind == StateKind::kWeights) weights = bytes;
    largest = std::max(largest, bytes + (block.kind == StateKind::kRemainder ? weights : 0));
  }
  return largest;
}

// Adds what the user can do to an error that says that the plan does not fit.
Status WithSmallestBudgets(const Status& failure, const PlannedRun& run, const Budgets& budgets) {
  if (failure.code() != Code::kResourceExhausted) return failure;
  Result<Budgets> smallest = prefetch::SmallestBudgets(run.program.trace, budgets);
  if (!smallest.ok()) return failure;
  std::string advice = fmt::format(
      "{}\n  the smallest budgets that fit: [memory] device = \"{}MiB\", host = \"{}MiB\"",
      failure.message(), CeilDiv(smallest->device_bytes, 1_MiB),
      CeilDiv(smallest->host_bytes + run.staging_bytes, 1_MiB));
  advice += "\n  or, with these budgets: a smaller train_micro_batch_size_per_gpu or seq_len";
  if (run.layout.options.optimizer_home != Tier::kNvme) {
    advice += ", or offload_optimizer.device = \"nvme\"";
  }
  if (run.layout.options.weights_home != Tier::kNvme) {
    advice += ", or stage = 3 with offload_param.device = \"nvme\"";
  }
  if (run.host_cache_bytes > 0) advice += ", or a smaller host_cache";
  return Status(failure.code(), std::move(advice));
}

Result<StepPlan> CompileWithin(const PlannedRun& run, const Budgets& budgets) {
  if (run.config.zero.prefetch_ops.has_value()) {
    return prefetch::Compile(
        run.program.trace,
        {.budgets = budgets, .prefetch_ops = static_cast<uint32_t>(*run.config.zero.prefetch_ops)});
  }
  return prefetch::CompileBest(run.program.trace, budgets, run.hardware);
}

Result<StepPlan> CompileWithHostCache(PlannedRun& run, const Budgets& budgets) {
  if (std::optional<uint64_t> bytes = run.config.zero.host_cache_bytes) {
    run.host_cache_bytes = PlaceHostCache(*bytes, run.layout, run.program);
    return CompileWithin(run, budgets);
  }
  return CompileWithBestHostCache({.hardware = &run.hardware,
                                   .budgets = budgets,
                                   .compile = [&] { return CompileWithin(run, budgets); }},
                                  run.layout, run.program, run.host_cache_bytes);
}

// Ops on the device that do to bytes and not to matrices go by the device's memory.
void RateByteOps(const StepProgram& program, prefetch::Hardware& hardware) {
  for (size_t op = 0; op < program.trace.ops.size(); ++op) {
    const prefetch::TraceOp& trace_op = program.trace.ops[op];
    if (trace_op.lane != prefetch::Lane::kCompute || CountsFlops(program.payloads[op].role)) {
      continue;
    }
    hardware.rates.try_emplace(trace_op.kind, hardware.device_memory_bytes_per_s);
  }
}

StepProgram MakeProgram(const PlannedRun& run, uint32_t num_keeping_units) {
  const TrainConfig& train = run.config.train;
  return MakeStepProgram(
      run.layout, *run.model,
      {.num_micro_batches = static_cast<uint32_t>(train.gradient_accumulation_steps),
       .schedule = train.schedule == MicroBatchSchedule::kVertical ? Schedule::kVertical
                                                                   : Schedule::kHorizontal,
       .num_keeping_units = num_keeping_units,
       .clips = train.gradient_clipping > 0,
       .optimizer_on_device = run.layout.options.optimizer_home == Tier::kDevice});
}

// [train] recompute = "auto", for a run that is planned with everything recomputed.
void KeepWhatPays(const Budgets& budgets, PlannedRun& run) {
  uint32_t count = UnitsWorthKeeping(
      {.layout = &run.layout,
       .model = run.model.get(),
       .num_micro_batches = static_cast<uint32_t>(run.config.train.gradient_accumulation_steps),
       .budgets = budgets,
       .hardware = &run.hardware,
       .recomputing = &run.plan,
       .make_program = [&](uint32_t units) { return MakeProgram(run, units); }});
  if (count == 0) return;
  StepProgram recomputing = std::exchange(run.program, MakeProgram(run, count));
  Result<StepPlan> plan = CompileWithin(run, budgets);
  if (plan.ok()) {
    run.plan = std::move(plan).value();
    run.num_keeping_units = count;
  } else {
    run.program = std::move(recomputing);
  }
}

void PlanStore(PlannedRun& run) {
  run.store_directories = StoreDirectoriesOf(run.config);
  run.commits_every_step =
      std::all_of(run.layout.blocks.begin(), run.layout.blocks.end(),
                  [](const StateBlock& block) { return block.home == Tier::kNvme; });

  run.store_block_of.resize(run.program.trace.blocks.size());
  for (const StateBlock& block : run.layout.blocks) {
    run.store_block_of[run.store_blocks.size()] = tiering::StoreBlock(run.store_blocks.size());
    // Where a checkpoint is written behind the next step, that rewrites what is at home on nvme.
    bool is_rewritten = block.home == Tier::kNvme && !run.commits_every_step;
    run.store_blocks.push_back({.name = block.name,
                                .size_bytes = block.size_bytes(),
                                .more_versions = is_rewritten ? 1u : 0u});
  }
  for (prefetch::BlockId spilled : prefetch::SpilledBlocks(run.plan)) {
    const prefetch::TraceBlock& block = run.program.trace.blocks[Index(spilled)];
    run.store_block_of[Index(spilled)] = tiering::StoreBlock(run.store_blocks.size());
    run.store_blocks.push_back({.name = block.name,
                                .size_bytes = block.size_bytes,
                                .durability = tiering::Durability::kScratch});
  }
  // The kept checkpoints, the newest committed state (one of them, or a later one), and the state
  // being written.
  run.num_generations = static_cast<uint32_t>(run.config.checkpoint.keep_last + 2);
}

}  // namespace

bool CountsFlops(OpRole role) {
  switch (role) {
    case OpRole::kAttentionForward:
    case OpRole::kMlpForward:
    case OpRole::kHead:
    case OpRole::kMlpBackward:
    case OpRole::kAttentionBackward:
      return true;
    default:
      return false;
  }
}

std::vector<std::string> StoreDirectoriesOf(const RunConfig& config) {
  std::vector<std::string> directories;
  for (const OffloadConfig* offload :
       {&config.zero.offload_param, &config.zero.offload_optimizer}) {
    for (const std::string& path : offload->nvme_paths) {
      if (std::find(directories.begin(), directories.end(), path) == directories.end()) {
        directories.push_back(path);
      }
    }
  }
  if (directories.empty()) directories.push_back(config.train.run_dir + "/store");
  return directories;
}

aio::IoEngineOptions IoEngineOptionsOf(const RunConfig& config, std::span<std::byte> memory) {
  const AioConfig& aio = config.aio;
  return {.backend = aio.backend,
          .block_size_bytes = aio.block_size_bytes,
          .queue_depth = aio.queue_depth,
          .thread_count = aio.thread_count,
          .single_submit = aio.single_submit,
          .overlap_events = aio.overlap_events,
          .sqpoll = aio.sqpoll,
          .iopoll = aio.iopoll,
          .registered_files = aio.registered_files,
          .registered_memory = memory};
}

void AccountForVerify(const RunConfig& config, prefetch::Hardware& hardware) {
  // Only writes are hashed then: half the bytes.
  if (config.aio.verify == tiering::Verify::kOff) hardware.checksum_bytes_per_s *= 2;
}

prefetch::Hardware HardwareOf(const RunConfig& config) {
  prefetch::Hardware hardware = config.hardware.value_or(prefetch::Hardware{});
  if (!config.hardware.has_value()) {
    hardware.cores = std::max(1u, std::thread::hardware_concurrency());
    hardware.op_threads = ResolveThreads(config);
  }
  if (config.aio.verify == tiering::Verify::kOff)
    hardware.checksum_bytes_per_s *= 2;  // writes only
  return hardware;
}

Result<PlannedRun> PrepareRun(const RunConfig& config) {
  STRATA_RETURN_IF_ERROR(CheckSupported(config));
  PlannedRun run;
  run.config = config;
  run.threads = ResolveThreads(config);
  DType precision = config.train.precision == Precision::kBf16 ? DType::kBf16 : DType::kF32;
  run.layout = MakeStateLayout(UnitsOf(config.model.llama),
                               {.precision = precision,
                                .format = *config.optimizer.state,
                                .world_size = static_cast<uint32_t>(config.train.world_size),
                                .weights_home = TierOf(config.zero.offload_param.device),
                                .optimizer_home = TierOf(config.zero.offload_optimizer.device),
                                .stage = static_cast<uint32_t>(config.zero.stage)});
  STRATA_ASSIGN_OR_RETURN(run.kernels, MakeCpuKernels(run.threads));
  BatchShape batch{.micro_batch = config.train.train_micro_batch_size_per_gpu,
                   .seq_len = config.data.seq_len};
  run.model = std::make_unique<LlamaModel>(config.model.llama, precision, batch, run.kernels.get());
  if (config.train.recompute == Recompute::kNone) run.num_keeping_units = NumLayerUnits(run.layout);
  run.program = MakeProgram(run, run.num_keeping_units);
  run.staging_bytes = StagingBytes(run.layout);
  return run;
}

Status CompileRun(const prefetch::Hardware& hardware, PlannedRun& run) {
  run.hardware = hardware;
  RateByteOps(run.program, run.hardware);
  if (run.config.hardware.has_value()) run.rates_source = RatesSource::kConfig;
  const MemoryConfig& memory = run.config.memory;
  Budgets budgets{.device_bytes = memory.device_bytes,
                  .host_bytes = memory.host_bytes - std::min(memory.host_bytes, run.staging_bytes)};
  Result<StepPlan> plan = CompileWithHostCache(run, budgets);
  if (!plan.ok()) return WithSmallestBudgets(plan.status(), run, budgets);
  run.plan = std::move(plan).value();
  if (run.config.train.recompute == Recompute::kAuto) KeepWhatPays(budgets, run);
  STRATA_RETURN_IF_ERROR(prefetch::Verify(run.plan).With("the step plan is wrong; please report"));
  run.predicted = prefetch::Simulate(run.plan, run.hardware);
  run.bound = prefetch::BoundOf(run.plan, run.hardware);
  PlanStore(run);
  return OkStatus();
}

Result<PlannedRun> PlanRun(const RunConfig& config, const prefetch::Hardware& hardware) {
  STRATA_ASSIGN_OR_RETURN(PlannedRun run, PrepareRun(config));
  STRATA_RETURN_IF_ERROR(CompileRun(hardware, run));
  return run;
}

}  // namespace strata::engine
