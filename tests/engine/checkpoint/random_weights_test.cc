#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "engine/checkpoint/weight_source.h"

namespace strata::engine {
namespace {

TensorSpec Tensor(const std::string& name, uint64_t rows, uint64_t cols) {
  return {.name = name, .shape = {rows, cols}, .num_elements = rows * cols};
}

std::vector<float> ReadSlice(WeightSource& source, const TensorSpec& tensor, uint64_t first,
                             uint64_t count) {
  std::vector<float> values(count);
  Status status = source.Read(tensor, first, values);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return values;
}

TEST(RandomWeightsTest, NormsAreOnes) {
  TensorSpec norm = {
      .name = "model.norm.weight", .shape = {64}, .num_elements = 64, .is_norm = true};
  EXPECT_EQ(ReadSlice(*MakeRandomWeights(1, 0.02), norm, 0, 64), std::vector<float>(64, 1.0f));
}

TEST(RandomWeightsTest, TheSameSeedGivesTheSameWeightsAndAnotherSeedOthers) {
  TensorSpec tensor = Tensor("model.layers.0.mlp.up_proj.weight", 16, 8);
  std::vector<float> weights = ReadSlice(*MakeRandomWeights(1, 0.02), tensor, 0, 128);
  EXPECT_EQ(ReadSlice(*MakeRandomWeights(1, 0.02), tensor, 0, 128), weights);
  EXPECT_NE(ReadSlice(*MakeRandomWeights(2, 0.02), tensor, 0, 128), weights);
}

TEST(RandomWeightsTest, TensorsOfDifferentNamesDiffer) {
  std::unique_ptr<WeightSource> source = MakeRandomWeights(1, 0.02);
  EXPECT_NE(ReadSlice(*source, Tensor("a", 16, 8), 0, 128),
            ReadSlice(*source, Tensor("b", 16, 8), 0, 128));
}

TEST(RandomWeightsTest, RanksThatReadTheirShardsAtOnceGetTheBitsOfOneReader) {
  TensorSpec tensor = Tensor("lm_head.weight", 1000, 33);
  std::unique_ptr<WeightSource> source = MakeRandomWeights(9, 0.02);
  std::vector<float> whole = ReadSlice(*source, tensor, 0, tensor.num_elements);
  std::vector<float> sharded(whole.size());
  {
    std::vector<std::jthread> ranks;
    constexpr size_t kRanks = 3;
    for (size_t rank = 0; rank < kRanks; ++rank) {
      ranks.emplace_back([&, rank] {
        size_t shard = sharded.size() / kRanks;
        Status status = source->Read(tensor, rank * shard, {&sharded[rank * shard], shard});
        EXPECT_TRUE(status.ok());
      });
    }
  }
  EXPECT_EQ(sharded, whole);
}

}  // namespace
}  // namespace strata::engine
