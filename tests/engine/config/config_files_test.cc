// The files in configs/ are what people start from: each must load.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "engine/config/internal/keys_without_effect.h"
#include "engine/config/run_config.h"
#include "tests/engine/config/minimal_config.h"

namespace strata::engine {
namespace {

constexpr const char* kConfigs = STRATA_SOURCE_DIR "/configs";

RunConfig Load(const std::string& name) {
  Result<RunConfig> config = LoadRunConfig(std::string(kConfigs) + "/" + name);
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : RunConfig{};
}

TEST(ConfigFiles, EveryFileLoads) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kConfigs)) {
    if (entry.path().extension() != ".toml") continue;
    Load(entry.path().filename().string());
    ++num_files;
  }
  EXPECT_GE(num_files, 4);
}

TEST(ConfigFiles, TheModelsHaveTheSizesTheirNamesPromise) {
  EXPECT_GE(NumParameters(Load("quickstart.toml").model.llama), 7'000'000u);
  EXPECT_LE(NumParameters(Load("quickstart.toml").model.llama), 12'000'000u);
  EXPECT_GE(NumParameters(Load("llama-300m-nvme.toml").model.llama), 300'000'000u);
  EXPECT_GE(NumParameters(Load("llama-1b-nvme.toml").model.llama), 1'000'000'000u);
  EXPECT_NEAR(static_cast<double>(NumParameters(Load("llama-65b-8gpu-nvme.toml").model.llama)),
              65.3e9, 0.1e9);
}

TEST(ConfigFiles, TheReferenceHasEveryKey) {
  std::ifstream file(STRATA_SOURCE_DIR "/docs/config.md");
  std::string reference((std::istreambuf_iterator<char>(file)), {});
  std::string resolved;
  for (const char* scheduler : {"WarmupDecayLR", "WarmupCosineLR"}) {
    RunConfig config = MinimalWith({std::string("scheduler.type=") + scheduler, "hardware.cores=2",
                                    "model.rope_scaling.factor=8",
                                    "zero_optimization.offload_param.nvme_path=nvme"});
    config.model.weights = "hf";
    resolved += ToToml(config);
  }
  std::istringstream lines(resolved);
  for (std::string line; std::getline(lines, line);) {
    std::string name = line.starts_with('[') ? line : line.substr(0, line.find(" = "));
    EXPECT_TRUE(name.empty() || reference.find("`" + name + "`") != std::string::npos) << name;
  }
}

TEST(ConfigFiles, TheReferenceHasEveryKeyWithoutEffect) {
  std::ifstream file(STRATA_SOURCE_DIR "/docs/config.md");
  std::string reference((std::istreambuf_iterator<char>(file)), {});
  using namespace config_internal;
  for (const auto& keys : {ZeroKeysWithoutEffect(), OffloadKeysWithoutEffect()}) {
    for (const KeyWithoutEffect& key : keys) {
      EXPECT_NE(reference.find("`" + std::string(key.key) + "`"), std::string::npos) << key.key;
    }
  }
}

// The quickstart's promise: training state at least three times the memory it trains in.
TEST(ConfigFiles, TheQuickstartsStateIsThreeTimesItsMemory) {
  RunConfig config = Load("quickstart.toml");
  constexpr uint64_t kStateBytes = 2 + 2 + 4 + 4 + 4;  // bf16 weight, gradient; master, m, v
  EXPECT_GE(NumParameters(config.model.llama) * kStateBytes,
            3 * (config.memory.device_bytes + config.memory.host_bytes));
}

}  // namespace
}  // namespace strata::engine
