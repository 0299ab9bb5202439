#include "engine/config/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "aio/base/units.h"
#include "tests/engine/config/minimal_config.h"

namespace strata::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Here(const std::string& relative) {
  return (std::filesystem::current_path() / relative).string();
}

TEST(RunConfig, WhatIsLeftOutHasItsDefault) {
  RunConfig config = MinimalWith({});
  EXPECT_EQ(config.train.world_size, 1u);
  EXPECT_EQ(config.train.gradient_clipping, 1.0);
  EXPECT_EQ(config.train.precision, Precision::kBf16);
  EXPECT_EQ(config.train.communication_data_type, Precision::kBf16);
  EXPECT_EQ(config.optimizer, OptimizerConfig{.state = StateFormat::kSplit});
  EXPECT_EQ(config.scheduler.type, SchedulerType::kConstant);
  EXPECT_EQ(config.zero, ZeroConfig{});
  EXPECT_EQ(config.aio, AioConfig{});
  EXPECT_EQ(config.memory.device_bytes, 64_MiB);
  EXPECT_EQ(config.model.llama.num_key_value_heads, 4u);
  EXPECT_EQ(config.model.llama.head_dim, 16u);
  EXPECT_FALSE(config.hardware.has_value());
}

TEST(RunConfig, TheDeviceIsReadAndWrittenAsItStands) {
  using Kind = DeviceChoice::Kind;
  EXPECT_EQ(MinimalWith({}).train.device, DeviceChoice{});
  EXPECT_EQ(MinimalWith({"train.device=cpu"}).train.device, DeviceChoice{Kind::kCpu});
  EXPECT_EQ(MinimalWith({"train.device=cuda"}).train.device, DeviceChoice{Kind::kCuda});
  EXPECT_EQ(MinimalWith({"train.device=cuda:12"}).train.device, (DeviceChoice{Kind::kCuda, 12}));
  for (const char* device : {"auto", "cpu", "cuda", "cuda:0"}) {
    const RunConfig config = MinimalWith({std::string("train.device=") + device});
    EXPECT_THAT(ToToml(config), HasSubstr(std::string("device = \"") + device + "\"\n"));
    EXPECT_EQ(ParseRunConfig(ToToml(config), "again").value(), config);
  }
}

TEST(RunConfig, KeysWithoutEffectAreTakenAndTold) {
  const RunConfig config = MinimalWith({"zero_optimization.overlap_comm=true",
                                        "zero_optimization.reduce_bucket_size=5e8",
                                        "zero_optimization.offload_param.pin_memory=true"});
  ASSERT_EQ(config.without_effect.size(), 3u);
  EXPECT_THAT(config.without_effect[0],
              HasSubstr("[zero_optimization] reduce_bucket_size: collectives take a unit"));
  EXPECT_THAT(config.without_effect[1], HasSubstr("[zero_optimization] overlap_comm: "));
  EXPECT_THAT(config.without_effect[2],
              HasSubstr("[zero_optimization.offload_param] pin_memory: one arena"));
  EXPECT_EQ(config, MinimalWith({}));
}

TEST(RunConfig, DefaultsFollowTheValuesTheyAreDerivedFrom) {
  RunConfig config = MinimalWith({"train.seed=7", "optimizer.lr=0.5", "scheduler.type=WarmupLR"});
  EXPECT_EQ(config.model.init_seed, 7u);
  EXPECT_EQ(config.data.seed, 7u);
  EXPECT_EQ(config.data.cache_dir, Here("runs/a/cache"));
  EXPECT_EQ(config.scheduler.warmup_max_lr, 0.5);
  EXPECT_EQ(MinimalWith({"scheduler.type=WarmupDecayLR"}).scheduler.total_num_steps, 10u);
  EXPECT_EQ(MinimalWith({"train.seed=7", "data.seed=8"}).data.seed, 8u);
  EXPECT_EQ(MinimalWith({"train.precision=fp16"}).train.communication_data_type, Precision::kFp16);
}

TEST(RunConfig, PathsAreRelativeToTheFileButWhatIsWrittenIsRelativeToTheWorkingDirectory) {
  RunConfig config = MinimalWith({});
  EXPECT_EQ(config.data.path, "/etc/strata/text");
  EXPECT_EQ(config.train.run_dir, Here("runs/a"));
  EXPECT_EQ(MinimalWith({"data.path=text"}).data.path, Here("text"));
  EXPECT_EQ(MinimalWith({"data.path=/x/../y/"}).data.path, "/y");
}

TEST(RunConfig, NvmePathIsOneDirectoryOrSeveral) {
  RunConfig one = MinimalWith({"zero_optimization.offload_param.nvme_path=/nvme0/"});
  EXPECT_THAT(one.zero.offload_param.nvme_paths, ElementsAre("/nvme0"));
  RunConfig two = MinimalWith({"zero_optimization.offload_param.nvme_path=['/nvme0', '/nvme1']"});
  EXPECT_THAT(two.zero.offload_param.nvme_paths, ElementsAre("/nvme0", "/nvme1"));
}

TEST(RunConfig, SizesAreTextWithAUnitOrANumberOfBytes) {
  EXPECT_EQ(MinimalWith({"memory.device=1.5GiB"}).memory.device_bytes, 1536_MiB);
  EXPECT_EQ(MinimalWith({"aio.block_size=1048576"}).aio.block_size_bytes, 1_MiB);
}

TEST(RunConfig, DeepSpeedsNameForThreadsIsAnotherNameOfThreadCount) {
  EXPECT_EQ(MinimalWith({"aio.intra_op_parallelism=3"}).aio.thread_count, 3u);
  EXPECT_EQ(MinimalWith({"aio.intra_op_parallelism=3", "aio.thread_count=4"}).aio.thread_count, 4u);
}

TEST(RunConfig, PrefetchOpsIsAutoOrANumber) {
  EXPECT_EQ(MinimalWith({"zero_optimization.prefetch_ops=0"}).zero.prefetch_ops, 0u);
  EXPECT_EQ(MinimalWith({"zero_optimization.prefetch_ops=auto"}).zero.prefetch_ops, std::nullopt);
  auto host_cache = [](const std::string& value) {
    return MinimalWith({"zero_optimization.stage=3",
                        "zero_optimization.offload_optimizer={device='nvme', nvme_path='/a', "
                        "host_cache=" +
                            value + "}"})
        .zero.host_cache_bytes;
  };
  EXPECT_EQ(MinimalWith({}).zero.host_cache_bytes, 0u);
  EXPECT_EQ(host_cache("'1.5GiB'"), 1536_MiB);
  EXPECT_EQ(host_cache("0"), 0u);
  EXPECT_EQ(host_cache("'auto'"), std::nullopt);
}

TEST(RunConfig, TheLastOverrideWins) {
  EXPECT_EQ(MinimalWith({"train.steps=20", "train.steps = 30"}).train.steps, 30u);
}

TEST(RunConfig, TwoBatchSizesGiveTheThird) {
  TrainConfig train = MinimalWith({"train.train_batch_size=24",
                                   "train.train_micro_batch_size_per_gpu=3", "train.world_size=2"})
                          .train;
  EXPECT_EQ(train.gradient_accumulation_steps, 4u);
  train = MinimalWith({"train.train_batch_size=24", "train.gradient_accumulation_steps=4",
                       "train.world_size=2"})
              .train;
  EXPECT_EQ(train.train_micro_batch_size_per_gpu, 3u);
  train = MinimalWith({"train.train_batch_size=0", "train.train_micro_batch_size_per_gpu=3",
                       "train.gradient_accumulation_steps=4", "train.world_size=2"})
              .train;
  EXPECT_EQ(train.train_batch_size, 24u);
}

TEST(RunConfig, OneBatchSizeAloneMeansNoAccumulation) {
  TrainConfig train = MinimalWith({"train.train_batch_size=8", "train.world_size=2"}).train;
  EXPECT_EQ(train.train_micro_batch_size_per_gpu, 4u);
  EXPECT_EQ(train.gradient_accumulation_steps, 1u);
  train = MinimalWith({"train.train_batch_size=0", "train.train_micro_batch_size_per_gpu=3"}).train;
  EXPECT_EQ(train.train_batch_size, 3u);
  EXPECT_EQ(train.gradient_accumulation_steps, 1u);
}

TEST(RunConfig, HardwareRatesReplaceTheDefaultsThatTheyName) {
  RunConfig config = MinimalWith({"hardware.cores=64", "hardware.rates.\"mlp.backward\"=4e11"});
  ASSERT_TRUE(config.hardware.has_value());
  EXPECT_EQ(config.hardware->cores, 64u);
  EXPECT_EQ(config.hardware->rates.at("mlp.backward"), 4e11);
  EXPECT_EQ(config.hardware->h2d_bytes_per_s, prefetch::Hardware{}.h2d_bytes_per_s);
}

TEST(RunConfig, BackendsAreInTheOrderOfTheirEnum) {
  EXPECT_EQ(MinimalWith({}).aio.backend, std::nullopt);
  EXPECT_EQ(MinimalWith({"aio.backend=auto"}).aio.backend, std::nullopt);
  EXPECT_EQ(MinimalWith({"aio.backend=libaio"}).aio.backend, aio::IoBackend::kLibaio);
  EXPECT_EQ(MinimalWith({"aio.backend=io_uring"}).aio.backend, aio::IoBackend::kIoUring);
  EXPECT_EQ(MinimalWith({"aio.backend=posix"}).aio.backend, aio::IoBackend::kPosix);
  EXPECT_EQ(MinimalWith({"aio.verify=sampled"}).aio.verify, tiering::Verify::kSampled);
  EXPECT_EQ(MinimalWith({"aio.verify=off"}).aio.verify, tiering::Verify::kOff);
}

TEST(RunConfig, AResolvedConfigReadsBackEqual) {
  RunConfig plain = MinimalWith({});
  Result<RunConfig> again = ParseRunConfig(ToToml(plain), "/elsewhere/config.toml");
  ASSERT_TRUE(again.ok()) << again.status().message() << "\n" << ToToml(plain);
  EXPECT_EQ(*again, plain);
}

TEST(RunConfig, AConfigWithEveryKindOfValueReadsBackEqual) {
  RunConfig config = MinimalWith({"model.rope_theta=500000.1",
                                  "model.rope_scaling.factor=8",
                                  "model.init_seed=12",
                                  "model.tie_word_embeddings=true",
                                  "train.precision=fp32",
                                  "train.seed=9223372036854775807",
                                  "optimizer.betas=[0.9, 0.95]",
                                  "optimizer.lr=0.1",
                                  "optimizer.eps=1e-300",
                                  "scheduler.type=WarmupCosineLR",
                                  "scheduler.cos_min_ratio=0.3",
                                  "scheduler.warmup_type=linear",
                                  "zero_optimization.stage=3",
                                  "zero_optimization.offload_param.device=nvme",
                                  "zero_optimization.prefetch_ops=4",
                                  "zero_optimization.offload_optimizer.device=nvme",
                                  "zero_optimization.offload_optimizer.nvme_path=['/a', '/b']",
                                  "zero_optimization.offload_optimizer.host_cache=3GiB",
                                  "zero_optimization.offload_param.nvme_path=['/a', '/b']",
                                  "aio.backend=io_uring",
                                  "aio.sqpoll=true",
                                  "aio.iopoll=true",
                                  "aio.registered_files=true",
                                  "aio.verify=sampled",
                                  "memory.host=12345678",
                                  "hardware.cores=8",
                                  "hardware.rates.\"mlp.backward\"=4e11"});
  config.model.weights = "/hf \"quoted\x01\"";  // with the keys as its shape
  Result<RunConfig> again = ParseRunConfig(ToToml(config), "/elsewhere/config.toml");
  ASSERT_TRUE(again.ok()) << again.status().message() << "\n" << ToToml(config);
  EXPECT_EQ(*again, config);
  EXPECT_FALSE(*again == MinimalWith({}));
}

TEST(RunConfig, ConfigsThatDifferOnlyInMeasuredRatesAreNotEqual) {
  EXPECT_FALSE(MinimalWith({"hardware.cores=8"}) == MinimalWith({"hardware.cores=9"}));
  EXPECT_FALSE(MinimalWith({"hardware.cores=8"}) == MinimalWith({}));
}

// A directory with a config.json, and a run.toml that names it.
class ModelFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "strata_config_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    std::filesystem::create_directory(directory_ / "hf");
    std::ofstream(directory_ / "hf/config.json") << ToConfigJson(Shape(), DType::kBf16);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static LlamaConfig Shape() { return MinimalWith({"model.hidden_size=96"}).model.llama; }

  Result<RunConfig> LoadWith(const std::string& model_section,
                             const std::vector<std::string>& overrides = {}) {
    std::string text(kMinimalConfig);
    size_t end_of_model = text.find("[data]");
    std::filesystem::path file = directory_ / "run.toml";
    std::ofstream(file) << "[model]\n" << model_section << "\n" << text.substr(end_of_model);
    return LoadRunConfig(file.string(), overrides);
  }
  std::string Override(const std::string& key, const std::string& file) const {
    return key + "=" + (directory_ / file).string();
  }

  std::filesystem::path directory_;
};

TEST_F(ModelFileTest, TheShapeComesFromAConfigJsonBesideTheFile) {
  Result<RunConfig> config = LoadWith("config = \"hf/config.json\"");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->model.llama, Shape());
  EXPECT_EQ(config->model.weights, "");
}

TEST_F(ModelFileTest, TheShapeOfImportedWeightsComesWithThem) {
  Result<RunConfig> config = LoadWith("weights = \"hf\"");
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->model.llama, Shape());
  EXPECT_EQ(config->model.weights, (directory_ / "hf").string());
}

TEST_F(ModelFileTest, AResolvedConfigNeedsTheConfigJsonNoMore) {
  Result<RunConfig> config = LoadWith("weights = \"hf\"");
  ASSERT_TRUE(config.ok()) << config.status().message();
  std::filesystem::remove_all(directory_ / "hf");
  Result<RunConfig> again = ParseRunConfig(ToToml(*config), "/elsewhere/config.toml");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, *config);
}

TEST_F(ModelFileTest, AMissingConfigJsonIsNamed) {
  EXPECT_THAT(LoadWith("config = \"no.json\"").status().message(),
              HasSubstr((directory_ / "no.json").string() + ": No such file"));
}

TEST_F(ModelFileTest, AShapeFromTwoPlacesIsRefused) {
  EXPECT_THAT(LoadWith("config = \"hf/config.json\"\nhidden_size = 64").status().message(),
              HasSubstr("has config and also keys of the shape"));
  EXPECT_THAT(LoadWith("config = \"hf/config.json\"\nweights = \"hf\"").status().message(),
              HasSubstr("has config and also weights"));
}

// A shape that no config.json here has.
constexpr const char* kOtherShape =
    "vocab_size = 300\nhidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 1\n"
    "num_attention_heads = 2\nrms_norm_eps = 1e-3\n[model.rope_scaling]\nfactor = 4\n";

TEST_F(ModelFileTest, AModelNamedByAnOverrideReplacesTheShapeInTheFile) {
  for (const std::string& named :
       {Override("model.config", "hf/config.json"), Override("model.weights", "hf")}) {
    Result<RunConfig> config = LoadWith(kOtherShape, {named});
    ASSERT_TRUE(config.ok()) << config.status().message();
    EXPECT_EQ(config->model.llama, Shape());
  }
}

TEST_F(ModelFileTest, WeightsNamedByAnOverrideReplaceTheConfigJsonThatTheFileNames) {
  Result<RunConfig> config = LoadWith("config = \"no.json\"", {Override("model.weights", "hf")});
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->model.llama, Shape());
}

TEST_F(ModelFileTest, AMistypedShapeKeyIsFoundEvenWhereAnOverrideReplacesTheShape) {
  EXPECT_THAT(LoadWith("hiden_size = 3", {Override("model.weights", "hf")}).status().message(),
              HasSubstr("did you mean 'hidden_size'?"));
}

TEST_F(ModelFileTest, AModelThatAnOverrideNamesWrongIsBlamedOnTheOverride) {
  std::string named = Override("model.config", "no.json");
  EXPECT_THAT(LoadWith(kOtherShape, {named}).status().message(),
              HasSubstr("run.toml with --set " + named + ": [model]"));
  EXPECT_THAT(
      LoadWith(kOtherShape, {Override("model.config", "hf/config.json"), "model.hidden_size=64"})
          .status()
          .message(),
      HasSubstr("--set model.hidden_size=64: [model] has config and also keys"));
}

TEST_F(ModelFileTest, AMissingFileIsNotFound) {
  Status status = LoadRunConfig((directory_ / "no.toml").string()).status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("no.toml"));
}

TEST(RunConfig, TheStateFormatIsSplitWithBf16AndFp32WithFp32UnlessItIsGiven) {
  EXPECT_EQ(MinimalWith({"optimizer.state=auto"}).optimizer.state, StateFormat::kSplit);
  EXPECT_EQ(MinimalWith({"train.precision=fp32"}).optimizer.state, StateFormat::kFp32);
  EXPECT_EQ(MinimalWith({"optimizer.state=fp32"}).optimizer.state, StateFormat::kFp32);
  EXPECT_EQ(MinimalWith({"optimizer.state=int8"}).optimizer.state, StateFormat::kInt8);
}

}  // namespace
}  // namespace strata::engine
