#include "engine/cluster/largest_model.h"

#include <gtest/gtest.h>

#include "engine/cluster/plan_outcome.h"
#include "engine/model/model_presets.h"
#include "tests/engine/cluster/small_cluster.h"

namespace strata::engine {
namespace {

TEST(LargestModel, ScalingKeepsAShapesProportions) {
  LlamaConfig base = FindModelPreset("llama-7b")->config;
  EXPECT_EQ(OrDie(ScaledTo(base, base.hidden_size)), base);
  LlamaConfig twice = OrDie(ScaledTo(base, 2 * base.hidden_size));
  EXPECT_EQ(twice.num_hidden_layers, 2 * base.num_hidden_layers);
  EXPECT_EQ(twice.num_attention_heads, 2 * base.num_attention_heads);
  EXPECT_EQ(twice.num_key_value_heads, twice.num_attention_heads);
  EXPECT_EQ(twice.intermediate_size, 2 * base.intermediate_size);
  LlamaConfig grouped = FindModelPreset("llama-3-8b")->config;
  EXPECT_EQ(OrDie(ScaledTo(grouped, 2 * grouped.hidden_size)).num_key_value_heads, 8u);
  EXPECT_FALSE(ScaledTo(base, base.hidden_size + 1).ok());
}

TEST(LargestModel, TheNextWiderOneDoesNotFit) {
  Cluster cluster = SmallCluster(256_MiB, 512_MiB, 1);
  for (OffloadDevice device : {OffloadDevice::kNone, OffloadDevice::kCpu, OffloadDevice::kNvme}) {
    RunConfig config =
        SmallRun(cluster, {.stage = 3, .optimizer = device, .weights = device}, 1, 128);
    const uint64_t capacity = 2_GiB;
    LlamaConfig largest = OrDie(LargestThatFits(config, capacity));
    config.model.llama = largest;
    EXPECT_TRUE(OrDie(Fits(config, capacity)));
    config.model.llama = OrDie(ScaledTo(SmallModel(), largest.hidden_size + HiddenStep(largest)));
    EXPECT_FALSE(OrDie(Fits(config, capacity)));
  }
}

TEST(LargestModel, OnDrivesOfUnknownSpaceItIsNotKnown) {
  Cluster cluster = SmallCluster(256_MiB, 512_MiB, 1);
  RunConfig config = SmallRun(
      cluster, {.stage = 3, .optimizer = OffloadDevice::kNvme, .weights = OffloadDevice::kNvme});
  EXPECT_EQ(LargestThatFits(config, kUnknownCapacity).status().code(), Code::kInvalidArgument);
}

// Llama 2 70B: 2 x 80 layers x 8 heads x 128 x 2 bytes = 320 KiB per token.
TEST(InferenceMemory, CountsKeysAndValuesOfTheHeadsThatAreKept) {
  LlamaConfig llama = FindModelPreset("llama-2-70b")->config;
  InferenceMemory memory = InferenceMemoryOf(llama, Precision::kBf16, 4, 4096);
  EXPECT_EQ(memory.kv_bytes_per_token, 320_KiB);
  EXPECT_EQ(memory.kv_bytes, 4 * 4096 * 320_KiB);
  EXPECT_EQ(memory.weights_bytes, 2 * NumParameters(llama));
  EXPECT_EQ(memory.SequencesIn(memory.weights_bytes + 3 * 4096 * 320_KiB, 4096), 3u);
  EXPECT_EQ(memory.SequencesIn(memory.weights_bytes - 1, 4096), 0u);
}

}  // namespace
}  // namespace strata::engine
