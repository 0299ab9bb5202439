// From a configuration to a compiled step: everything that is decided before a byte moves.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/io_engine.h"
#include "engine/config/run_config.h"
#include "engine/kernels/kernels.h"
#include "engine/model/llama.h"
#include "engine/optimizer/device_adam.h"
#include "engine/zero/state_layout.h"
#include "engine/zero/step_program.h"
#include "prefetch/hardware.h"
#include "prefetch/step_plan.h"
#include "prefetch/timeline.h"
#include "tiering/block_store.h"

namespace strata::engine {

// Where the rates came from that a plan was simulated with.
enum class RatesSource : uint8_t { kDefaults, kConfig, kMeasured };

// One kind of step, compiled.
struct PlannedStep {
  StepProgram program;
  prefetch::StepPlan plan = {};
  prefetch::Timeline predicted = {};
  prefetch::Bound bound = {};
  std::vector<tiering::StoreBlock> store_block_of = {};  // by trace block, for the executor
};

// A way to clip that was looked at, and how long its main step took in a first simulation.
struct ClipAlternative {
  StepKind kind = StepKind::kAfterNorm;
  tiering::Tier pending_home = tiering::Tier::kHost;  // of all kept gradients
  std::optional<double> step_s = {};                  // none: it does not fit
};

struct PlannedRun {
  RunConfig config;
  uint32_t threads = 1;  // resolved
  StateLayout layout;
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<DeviceAdam> device_adam;  // null: the cpu updates everything
  std::unique_ptr<LlamaModel> model;
  // The step that the run takes mostly, and below its plan; its kind says how the run updates.
  StepProgram program;
  uint32_t num_keeping_units = 0;           // resolved from [train] recompute
  uint32_t num_device_updates = 0;          // units whose state the device updates
  uint32_t parts_per_op = kWholeSublayers;  // resolved from [train] tile
  prefetch::Hardware hardware;
  RatesSource rates_source = RatesSource::kDefaults;
  prefetch::StepPlan plan;
  prefetch::Timeline predicted;
  prefetch::Bound bound;
  // The other kinds of step that it takes: with clipping, docs/step-plan.md.
  std::vector<PlannedStep> further_steps;
  PendingHomes pending_homes;                      // of gradients, where the step's kind keeps them
  std::vector<ClipAlternative> clip_alternatives;  // with clip_mode = "auto"
  // Speculative runs: after so many steps without a clip, deferred ones give way to speculation.
  uint32_t calm_steps = 0;
  // Host memory beside the plan's: where blocks at home on the device pass through at checkpoints.
  uint64_t staging_bytes = 0;

  // State at home on nvme by its configuration that has its place in host memory (host_cache.h).
  uint64_t host_cache_bytes = 0;

  // The store: where, what, and how much.
  std::vector<std::string> store_directories;
  std::vector<tiering::BlockDescription> store_blocks;  // the layout's, then the plan's spills
  std::vector<tiering::StoreBlock> store_block_of;      // by trace block, for the executor
  uint32_t num_generations = 0;

  // All state is at home on nvme, so that every step can commit.
  bool commits_every_step = false;
};

// One of a run's kinds of step, the main one or a further one (CHECKed).
struct StepView {
  const StepProgram& program;
  const prefetch::StepPlan& plan;
  const prefetch::Timeline& predicted;
  const prefetch::Bound& bound;
  const std::vector<tiering::StoreBlock>& store_block_of;
};
StepView StepOf(const PlannedRun& run, StepKind kind);

// Where a run's blocks are: its nvme paths (also when all state is at home in memory: then only
// checkpoints go there), or RUN_DIR/store when there are none.
std::vector<std::string> StoreDirectoriesOf(const RunConfig& config);

// How finely the run's model is cut into parts: [model] part_size in weights.
uint64_t PartElementsOf(const RunConfig& config);

// [aio], for an engine that works on `memory`.
aio::IoEngineOptions IoEngineOptionsOf(const RunConfig& config, std::span<std::byte> memory);

// Whether the op's work is matrix products, counted in flops, or bytes.
bool CountsFlops(OpRole role);

// The rates of [hardware], or the defaults for its device.
prefetch::Hardware HardwareOf(const RunConfig& config);
// Reads are not hashed with [aio] verify = "off".
void AccountForVerify(const RunConfig& config, prefetch::Hardware& hardware);

// [train] device is to be chosen by then (run_device.h); "auto" is planned as "cpu". Moves no bytes
// and reads no weights. kResourceExhausted when the step does not fit its budgets:
// with the smallest budgets that would, and what else to change.
Result<PlannedRun> PlanRun(const RunConfig& config, const prefetch::Hardware& hardware);

// Whether there are runs with such stages, ranks and precision at all; kUnimplemented, with what to
// change.
Status CheckSupported(const RunConfig& config);

// Everything that does not depend on the machine's rates: layout, model, program. A first half of
// PlanRun, for measuring rates before the plan is made.
Result<PlannedRun> PrepareRun(const RunConfig& config);
// The second half.
Status CompileRun(const prefetch::Hardware& hardware, PlannedRun& run);

// Close to the smallest budgets of a prepared run in its most frugal way to clip that the
// configuration allows, all kinds of its steps considered (prefetch::SmallestBudgets).
Result<prefetch::Budgets> SmallestRunBudgets(const PlannedRun& prepared,
                                             const prefetch::Budgets& preferred);

}  // namespace strata::engine
