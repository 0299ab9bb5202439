// The files in configs/ are what people start from: each must plan within the budgets it gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "engine/config/run_config.h"
#include "engine/train/planning.h"

namespace strata::engine {
namespace {

const std::string kConfigs = STRATA_SOURCE_DIR "/configs";

// Planning is the work of one thread and takes minutes under sanitizers and unoptimised. Those
// builds see as much in models of a few layers.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
const std::vector<std::string> kDepth = {"model.num_hidden_layers=8"};
#else
const std::vector<std::string> kDepth = {};
#endif

Result<PlannedRun> PlanFile(const std::string& path, const std::vector<std::string>& overrides) {
  STRATA_ASSIGN_OR_RETURN(RunConfig config, LoadRunConfig(path, overrides));
  return PlanRun(config, HardwareOf(config));
}

// What a run of it may come to be on, with and without a GPU.
std::vector<std::string> DevicesOf(const std::string& path) {
  Result<RunConfig> config = LoadRunConfig(path, {});
  EXPECT_TRUE(config.ok()) << config.status().message();
  if (!config.ok()) return {};
  const DeviceChoice device = config->train.device;
  if (device.kind == DeviceChoice::Kind::kAuto) return {"cpu", "cuda"};
  return {ToText(device)};
}

TEST(ShippedConfigs, EveryConfigPlansOnEveryDeviceThatItMayGet) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".toml") continue;
    ++num_files;
    for (const std::string& device : DevicesOf(entry.path().string())) {
      SCOPED_TRACE(entry.path().string() + " on " + device);
      std::vector<std::string> overrides = kDepth;
      overrides.push_back("train.device=" + device);
      Result<PlannedRun> run = PlanFile(entry.path().string(), overrides);
      EXPECT_TRUE(run.ok()) << run.status().message();
    }
  }
  EXPECT_GE(num_files, 4);
}

// Budgets made for cores, on a GPU.
TEST(ShippedConfigs, WhatIsTooSmallForAGpuSaysThatItWouldDoForTheCores) {
  Result<PlannedRun> run = PlanFile(kConfigs + "/quickstart.toml", {"train.device=cuda"});
  EXPECT_EQ(run.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(run.status().message(),
              testing::AllOf(testing::HasSubstr("or [train] device = \"cpu\" (products on a GPU "
                                                "have a workspace of 32 MiB)"),
                             testing::HasSubstr("the smallest budgets that fit: [memory] device")));
  run = PlanFile(kConfigs + "/quickstart.toml",
                 {"train.device=cuda", "memory.device=4MiB", "memory.host=4MiB"});
  EXPECT_EQ(run.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(run.status().message(), testing::Not(testing::HasSubstr("device = \"cpu\"")));
}

double BytesPerParameter(const PlannedRun& run, prefetch::Lane lane) {
  return static_cast<double>(
             prefetch::TrafficOf(run.plan).bytes_by_lane[static_cast<size_t>(lane)]) /
         static_cast<double>(NumParameters(run.config.model.llama));
}

Result<PlannedRun> Plan300M(const std::string& clip_mode, const std::string& host) {
  return PlanFile(
      kConfigs + "/llama-300m-nvme.toml",
      {"train.gradient_clipping=1.0", "train.clip_mode=" + clip_mode, "memory.host=" + host});
}

// A step reads weights for forward and for backward (2 + 2 bytes per parameter) and master, m and v
// (12), and writes weights (2) and master, m and v (12). In the plan that is chosen gradients never
// go to nvme, not even when most of them are there before the first update.
TEST(ShippedConfigs, ANormFirstStepOfThe300MModelMovesAtMost16BytesInAnd14OutPerParameter) {
  Result<PlannedRun> run = Plan300M("norm_first", "512MiB");
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_LE(BytesPerParameter(*run, prefetch::Lane::kNvmeRead), 16.0);
  // The .01: blocks are padded to 4 KiB.
  EXPECT_LE(BytesPerParameter(*run, prefetch::Lane::kNvmeWrite), 14.01);
}

// Speculation adds no bytes where host memory holds the gradients. Where it does not, those that
// memory has room for are not written; with all of them on nvme it were 14 bytes out. Either way
// clipping costs next to no time.
TEST(ShippedConfigs, SpeculationMovesFewMoreBytesAndKeepsTheScarcestResourceBusy) {
  for (const auto& [host, written] : {std::pair("1280MiB", 12.01), std::pair("512MiB", 13.5)}) {
    Result<PlannedRun> run = Plan300M("auto", host);
    ASSERT_TRUE(run.ok()) << run.status().message();
    EXPECT_EQ(run->program.kind, StepKind::kSpeculative);
    EXPECT_LE(BytesPerParameter(*run, prefetch::Lane::kNvmeRead), 14.0);
    EXPECT_LE(BytesPerParameter(*run, prefetch::Lane::kNvmeWrite), written) << host;
    EXPECT_LE(run->predicted.step_s, 1.10 * run->bound.seconds) << host;
  }
}

}  // namespace
}  // namespace strata::engine
