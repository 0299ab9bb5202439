#include "engine/model/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace strata::engine
