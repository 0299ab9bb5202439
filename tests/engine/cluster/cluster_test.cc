#include "engine/cluster/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "engine/cluster/plan_outcome.h"
#include "engine/kernels/cuda_planning_kernels.h"
#include "engine/train/measure.h"
#include "engine/train/planning.h"
#include "tests/engine/cluster/small_cluster.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;

TEST(Cluster, ARankHasAnEvenShareOfItsNode) {
  Cluster cluster = SmallCluster(80_GiB, 1024_GiB, 8, /*num_gpus=*/4);
  cluster.drives.read_bytes_per_s = 6e9;
  cluster.drives.write_bytes_per_s = 3e9;
  cluster.cores = 128;
  prefetch::Hardware hardware = HardwareOf(cluster);
  EXPECT_DOUBLE_EQ(hardware.nvme_read_bytes_per_s, 12e9);
  EXPECT_DOUBLE_EQ(hardware.nvme_write_bytes_per_s, 6e9);
  EXPECT_DOUBLE_EQ(hardware.nvme_mixed_bytes_per_s, 12e9);  // two thirds of the sum
  EXPECT_EQ(hardware.cores, 32u);
  EXPECT_DOUBLE_EQ(hardware.cpu_default_per_s, 4e10);
  EXPECT_FALSE(hardware.device_shares_cores);
  MemoryConfig memory = OrDie(BudgetsOf(cluster));
  EXPECT_EQ(memory.device_bytes, 80_GiB);
  EXPECT_EQ(memory.host_bytes, 256_GiB);
}

TEST(Cluster, ReservesAreNotPlannedWith) {
  Cluster cluster = SmallCluster(80_GiB, 1000_GiB, 0, 1);
  cluster.gpu_reserve_bytes = 5_GiB;
  cluster.host_reserve = 0.1;
  MemoryConfig memory = OrDie(BudgetsOf(cluster));
  EXPECT_EQ(memory.device_bytes, 75_GiB);
  EXPECT_EQ(memory.host_bytes, 900_GiB);
  cluster.gpu_reserve_bytes = 80_GiB;
  EXPECT_FALSE(BudgetsOf(cluster).ok());
}

// Between nodes a gather is as fast as the network brings it in.
TEST(Cluster, SeveralNodesGatherByTheirNetwork) {
  Cluster cluster = SmallCluster(80_GiB, 1_GiB, 0, 8);
  EXPECT_DOUBLE_EQ(HardwareOf(cluster).comm_default_per_s, cluster.gpu.link_bytes_per_s);
  cluster.nodes = 2;
  EXPECT_DOUBLE_EQ(HardwareOf(cluster).comm_default_per_s, cluster.network_bytes_per_s);
}

// Gradients cross the network twice as wide as they are, where nothing less is possible.
TEST(Cluster, SeveralNodesSumAtHalfTheRateOfTheirNetwork) {
  Cluster cluster = SmallCluster(80_GiB, 1_GiB, 0, 8);
  cluster.gpu.link_bytes_per_s = 1e12;
  cluster.network_bytes_per_s = 1e10;
  EXPECT_FALSE(HardwareOf(cluster).rates.contains("reduce"));
  cluster.nodes = 4;
  EXPECT_DOUBLE_EQ(HardwareOf(cluster).rates.at("reduce"), 0.5e10);
  // One GPU per node sends the other three a quarter each, as all do.
  cluster.gpus_per_node = 1;
  EXPECT_DOUBLE_EQ(HardwareOf(cluster).rates.at("reduce"), 1e10 * 4 / 3);
  cluster.gpu.link_bytes_per_s = 1e9;
  EXPECT_DOUBLE_EQ(HardwareOf(cluster).rates.at("reduce"), 1e9);
}

TEST(Cluster, ItsRunIsAConfigurationThatCanBeWrittenAndReadAgain) {
  Cluster cluster = SmallCluster(1_GiB, 4_GiB, 2);
  ZeroChoice choice{.stage = 3, .optimizer = OffloadDevice::kNvme, .weights = OffloadDevice::kCpu};
  RunConfig config = SmallRun(cluster, choice);
  EXPECT_EQ(ChoiceOf(config), choice);
  EXPECT_EQ(config.zero.offload_optimizer.nvme_paths,
            (std::vector<std::string>{"/nvme0", "/nvme1"}));
  EXPECT_EQ(config.train.train_batch_size, 8u);
  RunConfig again = OrDie(ParseRunConfig(ToToml(config), "again"));
  EXPECT_TRUE(again == config);
}

TEST(Cluster, OverridesReachTheRun) {
  Cluster cluster = SmallCluster(1_GiB, 4_GiB, 2);
  RunConfig config = OrDie(MakeRunConfig(cluster, SmallModel(), {.model = "", .seq_len = 128}, {},
                                         {"train.gradient_clipping=0"}));
  EXPECT_EQ(config.train.gradient_clipping, 0);
  EXPECT_FALSE(
      MakeRunConfig(cluster, SmallModel(), {.model = "", .seq_len = 128}, {}, {"train.no=0"}).ok());
}

// What a GPU's kernels take beside their operands is part of the plan, on any machine and in any
// build.
TEST(Cluster, APlanForAGpuNeedsNoGpuAndHasTheWorkspacesOfItsKernels) {
  const RunConfig config = SmallRun(SmallCluster(4_GiB, 4_GiB, 0), {.stage = 3});
  EXPECT_EQ(config.train.device, DeviceChoice{DeviceChoice::Kind::kCuda});
  const PlannedRun run = OrDie(PrepareRun(config));
  const std::unique_ptr<Kernels> kernels = MakeCudaPlanningKernels();
  const uint64_t least = kernels->MatMulWorkspaceBytes();
  ASSERT_GE(least, 32_MiB);  // of cuBLASLt
  int num_products = 0;
  for (size_t op = 0; op < run.program.trace.ops.size(); ++op) {
    if (!CountsFlops(run.program.payloads[op].role)) continue;
    ++num_products;
    EXPECT_GE(run.program.trace.ops[op].workspace_bytes, least);
  }
  EXPECT_GT(num_products, 0);
  RunConfig on_cores = config;
  on_cores.train.device = DeviceChoice{DeviceChoice::Kind::kCpu};
  const PlanOutcome gpu = OrDie(TryPlan(config, *config.hardware, kUnknownCapacity));
  const PlanOutcome cpu = OrDie(TryPlan(on_cores, *config.hardware, kUnknownCapacity));
  ASSERT_TRUE(gpu.fits() && cpu.fits());
  EXPECT_GT(gpu.device_bytes, cpu.device_bytes);
}

// Everything on the GPU: what it takes is ZeRO's table, and the step is what the GPU computes.
TEST(Cluster, PlannedMemoryFollowsTheStage) {
  Cluster cluster = SmallCluster(4_GiB, 4_GiB, 0);
  const double parameters = static_cast<double>(NumParameters(SmallModel()));
  std::vector<double> device_bytes;
  for (uint64_t stage : {0, 1, 2, 3}) {
    PlanOutcome outcome =
        OrDie(TryPlan(SmallRun(cluster, {.stage = stage}), HardwareOf(cluster), kUnknownCapacity));
    ASSERT_TRUE(outcome.fits());
    device_bytes.push_back(static_cast<double>(outcome.device_bytes) / parameters);
  }
  // Less with every stage; from stage 0 to 1 three quarters of the 12 or 10 bytes of optimizer.
  EXPECT_GT(device_bytes[0], device_bytes[1] + 0.7 * 10);
  EXPECT_GT(device_bytes[1], device_bytes[2]);
  EXPECT_GT(device_bytes[2], device_bytes[3]);
}

TEST(Cluster, RatesAreReadFromAFileWithThatSectionAlone) {
  std::string path = testing::TempDir() + "hardware.toml";
  prefetch::Hardware hardware;
  hardware.nvme_read_bytes_per_s = 1.25e9;
  hardware.rates["adam"] = 7e9;
  std::ofstream(path) << ToToml(hardware);
  prefetch::Hardware read = OrDie(LoadHardware(path));
  EXPECT_DOUBLE_EQ(read.nvme_read_bytes_per_s, 1.25e9);
  EXPECT_DOUBLE_EQ(read.rates["adam"], 7e9);
  std::ofstream(path) << "# nothing\n";
  EXPECT_THAT(std::string(LoadHardware(path).status().message()), HasSubstr("[hardware]"));
}

}  // namespace
}  // namespace strata::engine
