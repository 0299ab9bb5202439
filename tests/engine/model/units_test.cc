#include "engine/model/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace strata::engine {
namespace {

using ::testing::ElementsAre;

LlamaConfig Config(bool tied) {
  return {.vocab_size = 65,
          .hidden_size = 12,
          .intermediate_size = 10,
          .num_hidden_layers = 2,
          .num_attention_heads = 2,
          .num_key_value_heads = 1,
          .head_dim = 6,
          .tie_word_embeddings = tied};
}

std::vector<std::string> TensorNames(const UnitSpec& unit) {
  std::vector<std::string> names;
  for (const TensorSpec& tensor : unit.tensors) names.push_back(tensor.name);
  return names;
}

TEST(UnitsTest, UnitsComeInTheOrderOfTheForwardPass) {
  std::vector<std::string> names;
  for (const UnitSpec& unit : UnitsOf(Config(false))) names.push_back(unit.name);
  EXPECT_THAT(names, ElementsAre("embedding", "layers.0.attention", "layers.0.mlp",
                                 "layers.1.attention", "layers.1.mlp", "head"));
}

TEST(UnitsTest, TensorsHaveTheNamesAndShapesOfHuggingFace) {
  std::vector<UnitSpec> units = UnitsOf(Config(false));
  EXPECT_THAT(TensorNames(units[0]), ElementsAre("model.embed_tokens.weight"));
  EXPECT_THAT(TensorNames(units[3]), ElementsAre("model.layers.1.input_layernorm.weight",
                                                 "model.layers.1.self_attn.q_proj.weight",
                                                 "model.layers.1.self_attn.k_proj.weight",
                                                 "model.layers.1.self_attn.v_proj.weight",
                                                 "model.layers.1.self_attn.o_proj.weight"));
  EXPECT_THAT(TensorNames(units[2]), ElementsAre("model.layers.0.post_attention_layernorm.weight",
                                                 "model.layers.0.mlp.gate_proj.weight",
                                                 "model.layers.0.mlp.up_proj.weight",
                                                 "model.layers.0.mlp.down_proj.weight"));
  EXPECT_THAT(TensorNames(units[5]), ElementsAre("model.norm.weight", "lm_head.weight"));
  EXPECT_THAT(units[1].tensors[2].shape, ElementsAre(6, 12));  // k_proj: one head
  EXPECT_THAT(units[2].tensors[3].shape, ElementsAre(12, 10));
  EXPECT_TRUE(units[1].tensors[0].is_norm);
  EXPECT_FALSE(units[1].tensors[1].is_norm);
}

TEST(UnitsTest, TiedEmbeddingsLeaveTheHeadOnlyItsNorm) {
  EXPECT_THAT(TensorNames(UnitsOf(Config(true)).back()), ElementsAre("model.norm.weight"));
}

TEST(UnitsTest, TensorsAreAlignedDisjointAndInsideTheirUnit) {
  for (const UnitSpec& unit : UnitsOf(Config(false))) {
    uint64_t end = 0;
    for (const TensorSpec& tensor : unit.tensors) {
      EXPECT_EQ(tensor.offset_elements % 64, 0u) << tensor.name;
      EXPECT_GE(tensor.offset_elements, end) << tensor.name;
      EXPECT_LT(tensor.offset_elements, end + 64) << tensor.name;  // no more gap than that takes
      end = tensor.offset_elements + tensor.num_elements;
    }
    EXPECT_EQ(unit.num_elements, (end + 63) / 64 * 64) << unit.name;
  }
}

// In parts of at most 6 x 64 x 3 elements where there are more.
LlamaConfig Wide(bool tied) {
  LlamaConfig config = Config(tied);
  config.hidden_size = 6;
  config.head_dim = 3;
  config.intermediate_size = 150;
  config.vocab_size = 500;
  return config;
}
constexpr uint64_t kPartElements = 6 * 64 * 3;

TEST(UnitsTest, LargeSublayersAreCutIntoParts) {
  const std::vector<UnitSpec> units = UnitsOf(Wide(false), kPartElements);
  std::vector<std::string> names;
  for (const UnitSpec& unit : units) names.push_back(unit.name);
  EXPECT_THAT(names, ElementsAre("embedding.0", "embedding.1", "embedding.2",  //
                                 "layers.0.attention", "layers.0.mlp",         //
                                 "layers.0.mlp.0", "layers.0.mlp.1", "layers.0.mlp.2",
                                 "layers.1.attention", "layers.1.mlp",  //
                                 "layers.1.mlp.0", "layers.1.mlp.1", "layers.1.mlp.2", "head",
                                 "head.0", "head.1", "head.2"));
  for (const UnitSpec& unit : units) EXPECT_LE(unit.num_elements, kPartElements) << unit.name;
  const UnitSpec& second = units[6];
  EXPECT_THAT(TensorNames(second), ElementsAre("model.layers.0.mlp.gate_proj.weight",
                                               "model.layers.0.mlp.up_proj.weight",
                                               "model.layers.0.mlp.down_proj.weight"));
  EXPECT_THAT(second.tensors[0].shape, ElementsAre(64, 6));
  EXPECT_EQ(second.tensors[0].first_row, 64u);
  EXPECT_THAT(second.tensors[2].shape, ElementsAre(6, 64));
  EXPECT_EQ(second.tensors[2].first_col, 64u);
}

// Each element of each tensor is in one part, and the parts of one tensor are in one place.
TEST(UnitsTest, PartsCoverTheirTensorsOnce) {
  for (bool tied : {false, true}) {
    std::map<std::string, std::vector<int>> covered;
    for (const UnitSpec& unit : UnitsOf(Wide(tied), kPartElements)) {
      for (const TensorSpec& tensor : unit.tensors) {
        const TensorSpec whole = WholeTensor(tensor);
        std::vector<int>& counts = covered[tensor.name];
        counts.resize(whole.num_elements);
        const uint64_t cols = tensor.shape.back(), whole_cols = whole.shape.back();
        for (uint64_t i = 0; i < tensor.num_elements; ++i)
          ++counts[(tensor.first_row + i / cols) * whole_cols + tensor.first_col + i % cols];
      }
    }
    for (const UnitSpec& unit : UnitsOf(Wide(tied))) {
      for (const TensorSpec& tensor : unit.tensors) {
        EXPECT_EQ(covered[tensor.name], std::vector<int>(tensor.num_elements, 1)) << tensor.name;
        covered.erase(tensor.name);
      }
    }
    EXPECT_TRUE(covered.empty());
  }
}

TEST(UnitsTest, SublayersSayWhereTheirPartsAndNormsAre) {
  const std::vector<UnitSpec> units = UnitsOf(Wide(true), kPartElements);
  const std::vector<Sublayer> sublayers = SublayersOf(units);
  ASSERT_EQ(sublayers.size(), 6u);
  EXPECT_EQ(sublayers[0].name, "embedding");
  EXPECT_FALSE(sublayers[0].norm_unit.has_value());
  EXPECT_EQ(sublayers[0].num_parts, 3u);
  EXPECT_EQ(sublayers[1].norm_unit, sublayers[1].first_part);
  EXPECT_FALSE(sublayers[1].has_norm_apart());
  const Sublayer& mlp = sublayers[4];
  EXPECT_EQ(mlp.name, "layers.1.mlp");
  EXPECT_TRUE(mlp.has_norm_apart());
  EXPECT_EQ(units[*mlp.norm_unit].name, "layers.1.mlp");
  EXPECT_EQ(units[mlp.first_part].name, "layers.1.mlp.0");
  EXPECT_EQ(mlp.num_parts, 3u);
  const Sublayer& head = sublayers[5];  // tied: the embedding's parts
  EXPECT_EQ(units[*head.norm_unit].name, "head");
  EXPECT_EQ(head.first_part, 0u);
  EXPECT_EQ(head.num_parts, 3u);
  EXPECT_TRUE(head.has_norm_apart());
}

TEST(UnitsTest, UncutEverySublayerIsAUnit) {
  const std::vector<UnitSpec> units = UnitsOf(Config(false), 1 << 20);
  const std::vector<Sublayer> sublayers = SublayersOf(units);
  ASSERT_EQ(sublayers.size(), units.size());
  for (uint32_t i = 0; i < units.size(); ++i) {
    EXPECT_EQ(sublayers[i].name, units[i].name);
    EXPECT_EQ(sublayers[i].first_part, i);
    EXPECT_EQ(sublayers[i].num_parts, 1u);
  }
}

}  // namespace
}  // namespace strata::engine
