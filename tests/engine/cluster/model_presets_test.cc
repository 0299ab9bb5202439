#include "engine/model/model_presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "engine/cluster/cluster.h"
#include "engine/cluster/gpu_presets.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;

// What the papers and model cards say each has.
TEST(ModelPresets, HaveAsManyParametersAsWasPublished) {
  const std::map<std::string, double> kPublishedBillions = {
      {"llama-7b", 6.74},     {"llama-13b", 13.02},     {"llama-30b", 32.53},
      {"llama-65b", 65.29},   {"llama-2-7b", 6.74},     {"llama-2-13b", 13.02},
      {"llama-2-70b", 68.98}, {"llama-3-8b", 8.03},     {"llama-3-70b", 70.55},
      {"llama-3.1-8b", 8.03}, {"llama-3.1-70b", 70.55}, {"llama-3.1-405b", 405.85},
      {"llama-3.2-1b", 1.24}, {"llama-3.2-3b", 3.21},   {"gpt-175b", 174.6},
      {"gpt2-xl", 1.56},      {"gpt2", 0.124},          {"gpt-13b", 12.85},
      {"gpt-70b", 64.9},      {"gpt-1t", 1007.0}};
  EXPECT_EQ(ModelPresets().size(), kPublishedBillions.size());
  for (const ModelPreset& preset : ModelPresets()) {
    auto published = kPublishedBillions.find(std::string(preset.name));
    ASSERT_NE(published, kPublishedBillions.end()) << preset.name;
    double billions = static_cast<double>(NumParameters(preset.config)) / 1e9;
    // A GPT is planned as a Llama of its size.
    double tolerance = preset.family == ModelFamily::kGpt ? 0.01 : 0.002;
    EXPECT_NEAR(billions / published->second, 1, tolerance + 0.005 / published->second)
        << preset.name << " " << billions;
  }
}

TEST(ModelPresets, AreShapesThatTheModelAccepts) {
  std::set<std::string_view> names;
  for (const ModelPreset& preset : ModelPresets()) {
    EXPECT_TRUE(names.insert(preset.name).second);
    EXPECT_FALSE(preset.source.empty());
    Result<LlamaConfig> parsed =
        ParseLlamaConfig(ToConfigJson(preset.config, DType::kBf16), preset.name);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(*parsed, preset.config);
  }
}

TEST(ModelPresets, AnUnknownNameIsAnErrorThatListsThem) {
  Result<LlamaConfig> shape = ModelShape("llama-66b");
  ASSERT_FALSE(shape.ok());
  EXPECT_EQ(shape.status().code(), Code::kNotFound);
  EXPECT_THAT(std::string(shape.status().message()), HasSubstr("llama-65b"));
  EXPECT_FALSE(FindGpuPreset("a101").ok());
}

TEST(GpuPresets, SayWhereTheirNumbersAreFrom) {
  for (const GpuPreset& gpu : GpuPresets()) {
    EXPECT_FALSE(gpu.source.empty());
    EXPECT_GT(gpu.flops_per_s, 1e13);
    EXPECT_GT(gpu.memory_bytes_per_s, gpu.host_bytes_per_s);
  }
}

}  // namespace
}  // namespace strata::engine
