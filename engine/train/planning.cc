#include "engine/train/planning.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "aio/base/units.h"
#include "engine/train/device_updates.h"
#include "engine/train/host_cache.h"
#include "engine/train/recompute.h"
#include "engine/train/run_device.h"
#include "engine/train/step_kinds.h"
#include "prefetch/compile.h"
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

// What would let ops take less at once, if anything would: parts of a size, or fewer of them.
const char* SmallerTilesBy(const PlannedRun& run) {
  if (run.config.train.tile.value_or(1) > 1) return "[train] tile";
  uint64_t attention = 0, largest = 0;
  for (const UnitSpec& unit : run.layout.unit_specs) {
    const bool is_attention = unit.kind == UnitKind::kAttention;
    uint64_t& of_kind = is_attention ? attention : largest;
    of_kind = std::max(of_kind, unit.num_elements);
  }
  return largest > attention ? "[model] part_size" : nullptr;
}

// Whether the cores' kernels, which need less beside their operands, would do with these budgets.
bool FitsOnCores(const PlannedRun& run, const Budgets& budgets) {
  RunConfig config = run.config;
  config.train.device = DeviceChoice{DeviceChoice::Kind::kCpu};
  Result<PlannedRun> on_cores = PrepareRun(config);
  if (!on_cores.ok()) return false;
  Result<Budgets> smallest = SmallestRunBudgets(*on_cores, budgets);
  return smallest.ok() && smallest->device_bytes <= budgets.device_bytes &&
         smallest->host_bytes <= budgets.host_bytes;
}

// Adds what the user can do to an error that says that the plan does not fit.
Status WithSmallestBudgets(const Status& failure, const PlannedRun& run, const Budgets& budgets) {
  if (failure.code() != Code::kResourceExhausted) return failure;
  Result<Budgets> smallest = SmallestRunBudgets(run, budgets);
  if (!smallest.ok()) return failure;
  std::string advice = failure.message();
  if (run.staging_bytes > 0) {
    advice +=
        fmt::format("\n  of [memory] host = {}, {} are for writing checkpoints",
                    FormatBytes(run.config.memory.host_bytes), FormatBytes(run.staging_bytes));
  }
  advice += fmt::format(
      "\n  the smallest budgets that fit: [memory] device = \"{}MiB\", host = \"{}MiB\"",
      CeilDiv(smallest->device_bytes, 1_MiB),
      CeilDiv(smallest->host_bytes + run.staging_bytes, 1_MiB));
  advice += "\n  or, with these budgets: a smaller train_micro_batch_size_per_gpu or seq_len";
  if (const char* key = SmallerTilesBy(run)) advice += fmt::format(", or a smaller {}", key);
  if (run.layout.options.optimizer_home != Tier::kNvme) {
    advice += ", or offload_optimizer.device = \"nvme\"";
  }
  if (run.layout.options.weights_home != Tier::kNvme) {
    advice += ", or stage = 3 with offload_param.device = \"nvme\"";
  }
  if (run.host_cache_bytes > 0) advice += ", or a smaller host_cache";
  // A file that was made for cores meets a GPU by "auto".
  if (run.config.train.device.kind == DeviceChoice::Kind::kCuda && FitsOnCores(run, budgets)) {
    advice +=
        fmt::format(", or [train] device = \"cpu\" (products on a GPU have a workspace of {})",
                    FormatBytes(run.kernels->MatMulWorkspaceBytes()));
  }
  return Status(failure.code(), std::move(advice));
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

// The store's numbers of blocks that several plans know by the same names.
class StoreNumbers {
 public:
  explicit StoreNumbers(PlannedRun& run) : run_(run) {
    for (const StateBlock& block : run.layout.blocks) {
      // Where a checkpoint is written behind the next step, that rewrites what is at home on nvme.
      bool is_rewritten = block.home == Tier::kNvme && !run.commits_every_step;
      Add({.name = block.name,
           .size_bytes = block.size_bytes(),
           .more_versions = is_rewritten ? 1u : 0u});
    }
  }

  std::vector<tiering::StoreBlock> Number(const StepPlan& plan) {
    AddScratchOf(plan);
    std::vector<tiering::StoreBlock> numbers(plan.trace.blocks.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
      auto found = by_name_.find(plan.trace.blocks[i].name);
      if (found != by_name_.end()) numbers[i] = found->second;
    }
    return numbers;
  }

 private:
  // Kept gradients at home on nvme, and what ends with the step but goes there in between.
  void AddScratchOf(const StepPlan& plan) {
    std::vector<prefetch::BlockId> scratch = prefetch::SpilledBlocks(plan);
    for (size_t i = run_.layout.blocks.size(); i < plan.trace.blocks.size(); ++i) {
      const prefetch::TraceBlock& block = plan.trace.blocks[i];
      if (block.lifetime == prefetch::Lifetime::kPersistent && block.home == Tier::kNvme)
        scratch.push_back(prefetch::BlockId(i));
    }
    for (prefetch::BlockId id : scratch) {
      const prefetch::TraceBlock& block = plan.trace.blocks[Index(id)];
      Add({.name = block.name,
           .size_bytes = block.size_bytes,
           .durability = tiering::Durability::kScratch});
    }
  }

  void Add(tiering::BlockDescription block) {
    auto [it, is_new] =
        by_name_.try_emplace(block.name, tiering::StoreBlock(run_.store_blocks.size()));
    if (is_new) run_.store_blocks.push_back(std::move(block));
  }

  PlannedRun& run_;
  std::map<std::string, tiering::StoreBlock> by_name_;
};

// About an A100's, until the rates are measured or given.
prefetch::Hardware SomeGpu() {
  prefetch::Hardware hardware;
  hardware.h2d_bytes_per_s = hardware.d2h_bytes_per_s = 2.2e10;
  hardware.compute_default_per_s = 1.5e14;
  hardware.device_memory_bytes_per_s = 1.2e12;
  return hardware;
}

void PlanStore(PlannedRun& run) {
  run.store_directories = StoreDirectoriesOf(run.config);
  run.commits_every_step =
      std::all_of(run.layout.blocks.begin(), run.layout.blocks.end(),
                  [](const StateBlock& block) { return block.home == Tier::kNvme; });
  StoreNumbers numbers(run);
  run.store_block_of = numbers.Number(run.plan);
  for (PlannedStep& step : run.further_steps) step.store_block_of = numbers.Number(step.plan);
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
    case OpRole::kHeadStatistics:
    case OpRole::kHeadGradients:
    case OpRole::kMlpBackward:
    case OpRole::kAttentionBackward:
      return true;
    default:
      return false;
  }
}

uint64_t PartElementsOf(const RunConfig& config) {
  return config.model.part_bytes / SizeOf(DTypeOf(config.train.precision));
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
  const bool is_gpu = config.train.device.kind == DeviceChoice::Kind::kCuda;
  prefetch::Hardware hardware = config.hardware.value_or(is_gpu ? SomeGpu() : prefetch::Hardware{});
  if (is_gpu) hardware.device_shares_cores = false;
  if (!config.hardware.has_value()) {
    hardware.cores = std::max(1u, std::thread::hardware_concurrency());
    hardware.op_threads = ResolveThreads(config);
  }
  AccountForVerify(config, hardware);
  return hardware;
}

Result<PlannedRun> PrepareRun(const RunConfig& config) {
  STRATA_RETURN_IF_ERROR(CheckSupported(config));
  PlannedRun run;
  run.config = config;
  run.threads = ResolveThreads(config);
  DType precision = DTypeOf(config.train.precision);
  const uint64_t part_elements = PartElementsOf(config);
  run.layout = MakeStateLayout(UnitsOf(config.model.llama, part_elements),
                               {.precision = precision,
                                .format = *config.optimizer.state,
                                .world_size = static_cast<uint32_t>(config.train.world_size),
                                .weights_home = TierOf(config.zero.offload_param.device),
                                .optimizer_home = TierOf(config.zero.offload_optimizer.device),
                                .stage = static_cast<uint32_t>(config.zero.stage)});
  STRATA_ASSIGN_OR_RETURN(run.kernels, MakeKernels(config.train.device, run.threads));
  BatchShape batch{.micro_batch = config.train.train_micro_batch_size_per_gpu,
                   .seq_len = config.data.seq_len};
  run.model = std::make_unique<LlamaModel>(config.model.llama, precision, batch, run.kernels.get(),
                                           part_elements);
  // Until it is chosen, the most frugal.
  run.parts_per_op = static_cast<uint32_t>(config.train.tile.value_or(1));
  if (config.train.recompute == Recompute::kNone) run.num_keeping_units = NumLayerUnits(run.layout);
  if (run.layout.options.optimizer_home == Tier::kDevice) {
    run.num_device_updates = static_cast<uint32_t>(run.layout.units.size());
  } else if (config.zero.cpu_update_ratio) {
    run.num_device_updates = DeviceUpdates(run.layout, *config.zero.cpu_update_ratio);
  }
  if (run.num_device_updates > 0 || !config.zero.cpu_update_ratio) {
    STRATA_ASSIGN_OR_RETURN(run.device_adam, MakeDeviceAdam(config.train.device, run.threads));
  }
  if (config.zero.host_cache_bytes)
    run.host_cache_bytes = PlaceHostCache(*config.zero.host_cache_bytes, run.layout);
  STRATA_ASSIGN_OR_RETURN(std::vector<StepWay> ways, AllowedWays(run));
  run.pending_homes = AllPendingIn(ways.back().pending_home, run.layout);
  run.program = MakeProgramOf(run, ways.back().kind, run.pending_homes);
  run.staging_bytes = StagingBytes(run.layout);
  return run;
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

Status CompileRun(const prefetch::Hardware& hardware, PlannedRun& run) {
  run.hardware = hardware;
  RateByteOps(run.program, run.hardware);
  if (run.config.hardware.has_value()) run.rates_source = RatesSource::kConfig;
  const MemoryConfig& memory = run.config.memory;
  Budgets budgets{.device_bytes = memory.device_bytes,
                  .host_bytes = memory.host_bytes - std::min(memory.host_bytes, run.staging_bytes)};
  Status compiled = CompileSteps(budgets, run);
  if (!compiled.ok()) return WithSmallestBudgets(compiled, run, budgets);
  PlanStore(run);
  return OkStatus();
}

StepView StepOf(const PlannedRun& run, StepKind kind) {
  if (run.program.kind == kind)
    return {run.program, run.plan, run.predicted, run.bound, run.store_block_of};
  auto found = std::ranges::find_if(
      run.further_steps, [&](const PlannedStep& step) { return step.program.kind == kind; });
  STRATA_CHECK(found != run.further_steps.end());
  return {found->program, found->plan, found->predicted, found->bound, found->store_block_of};
}

// The device first: what it needs at least decides what the host must hold.
Result<Budgets> SmallestRunBudgets(const PlannedRun& prepared, const Budgets& preferred) {
  std::vector<StepProgram> programs;
  for (StepKind kind : KindsWith(prepared.program.kind))
    programs.push_back(MakeProgramOf(prepared, kind, prepared.pending_homes));
  Budgets least{.device_bytes = preferred.device_bytes};
  for (int round = 0; round < 2; ++round) {
    Budgets most;
    for (const StepProgram& program : programs) {
      STRATA_ASSIGN_OR_RETURN(Budgets one, prefetch::SmallestBudgets(program.trace, least));
      most.device_bytes = std::max(most.device_bytes, one.device_bytes);
      most.host_bytes = std::max(most.host_bytes, one.host_bytes);
    }
    if (round == 1) return most;
    least.device_bytes = std::max(least.device_bytes, most.device_bytes);
  }
  return least;
}

Result<PlannedRun> PlanRun(const RunConfig& config, const prefetch::Hardware& hardware) {
  STRATA_ASSIGN_OR_RETURN(PlannedRun run, PrepareRun(config));
  STRATA_RETURN_IF_ERROR(CompileRun(hardware, run));
  return run;
}

}  // namespace strata::engine
