// Which units the device updates of a state that is offloaded.
#include "engine/train/device_updates.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "engine/train/planning.h"
#include "prefetch/trace.h"
#include "tests/engine/train/training_run.h"

namespace strata::engine {
namespace {

using prefetch::Lane;
using prefetch::TraceOp;

PlannedRun Plan(const std::string& ratio, const prefetch::Hardware& hardware,
                const std::string& device = "host") {
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo("device", device, scratch.path());
  sets.insert(sets.end(), {"model.num_hidden_layers=6", "train.gradient_clipping=0",
                           "zero_optimization.offload_optimizer.ratio=" + ratio});
  return OrDie(PlanRun(OrDie(TinyConfig(scratch.path(), sets)), hardware));
}

double DeviceElements(const PlannedRun& run) {
  double elements = 0;
  for (size_t i = 0; i < run.program.trace.ops.size(); ++i) {
    const OpPayload& payload = run.program.payloads[i];
    if (payload.role != OpRole::kUpdate) continue;
    const bool is_on_device = run.program.trace.ops[i].lane == Lane::kCompute;
    EXPECT_EQ(is_on_device, payload.is_on_device);
    EXPECT_EQ(is_on_device, payload.unit < run.num_device_updates);
    if (is_on_device)
      elements +=
          static_cast<double>(run.layout.units[payload.unit].chunks[payload.chunk].num_elements);
  }
  return elements;
}

TEST(DeviceUpdates, AreTheShareThatTheRatioLeavesWithinHalfAUnit) {
  for (double ratio : {0.0, 0.3, 0.5, 0.9, 1.0}) {
    const PlannedRun run = Plan(fmt::format("{}", ratio), {});
    const auto all = static_cast<double>(run.layout.num_shard_elements());
    double largest = 0;
    for (const UnitState& unit : run.layout.units)
      largest = std::max(largest, static_cast<double>(unit.shard_elements));
    EXPECT_NEAR(DeviceElements(run), (1 - ratio) * all, largest / 2) << ratio;
    EXPECT_NEAR(CpuShare(run.layout, run.num_device_updates), 1 - DeviceElements(run) / all, 1e-12);
  }
}

// A machine whose cores are slow takes them off the cpu, one with a slow link does not.
TEST(DeviceUpdates, AreChosenWhereTheyMakeTheStepShorter) {
  prefetch::Hardware gpu;
  gpu.device_shares_cores = false;
  gpu.compute_default_per_s = 1e14;
  gpu.device_memory_bytes_per_s = 1e12;
  gpu.h2d_bytes_per_s = gpu.d2h_bytes_per_s = 5e10;
  gpu.node_latency_s = 1e-7;

  prefetch::Hardware slow_cores = gpu;
  slow_cores.cpu_default_per_s = 1e8;
  const PlannedRun chosen = Plan("auto", slow_cores);
  EXPECT_GT(chosen.num_device_updates, 0u);
  EXPECT_LT(chosen.predicted.step_s, 0.98 * Plan("1", slow_cores).predicted.step_s);

  prefetch::Hardware slow_link = gpu;
  slow_link.cpu_default_per_s = 1e11;
  slow_link.h2d_bytes_per_s = slow_link.d2h_bytes_per_s = 1e8;
  EXPECT_EQ(Plan("auto", slow_link).num_device_updates, 0u);
}

TEST(DeviceUpdates, AreAllOfThemWhereTheStateIsAtHomeOnTheDevice) {
  ScratchDirectory scratch;
  const RunConfig config =
      OrDie(TinyConfig(scratch.path(), OffloadTo("device", "device", scratch.path())));
  const PlannedRun run = OrDie(PlanRun(config, {}));
  EXPECT_EQ(run.num_device_updates, run.layout.units.size());
  EXPECT_EQ(DeviceElements(run), static_cast<double>(run.layout.num_shard_elements()));
}

TEST(DeviceUpdates, ARatioWithoutOffloadingIsToldWhatToSet) {
  ScratchDirectory scratch;
  std::vector<std::string> sets = OffloadTo("device", "device", scratch.path());
  sets.push_back("zero_optimization.offload_optimizer.ratio=0.5");
  const Status status = TinyConfig(scratch.path(), sets).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), testing::HasSubstr("set device = \"cpu\" or \"nvme\""));
}

}  // namespace
}  // namespace strata::engine
