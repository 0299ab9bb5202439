#include "engine/model/llama_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/model/units.h"

namespace strata::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The members every test starts from; `extra` is put in at the end.
std::string Json(const std::string& extra = "", const std::string& heads = "4") {
  return R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 48, "intermediate_size": 80,
             "num_hidden_layers": 2, "num_attention_heads": )" +
         heads + (extra.empty() ? "" : ", ") + extra + "}";
}

LlamaConfig Parsed(const std::string& text) {
  Result<LlamaConfig> config = ParseLlamaConfig(text, "config.json");
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  return config.ok() ? *config : LlamaConfig();
}

Status Refusal(const std::string& text) { return ParseLlamaConfig(text, "config.json").status(); }

void ExpectRefused(const std::string& text, Code code, const std::string& message) {
  Status status = Refusal(text);
  EXPECT_EQ(status.code(), code) << text;
  EXPECT_THAT(status.message(), AllOf(HasSubstr("config.json"), HasSubstr(message))) << text;
}

TEST(LlamaConfigTest, DefaultsAreThoseOfTransformers) {
  LlamaConfig config = Parsed(Json());
  EXPECT_EQ(config.num_key_value_heads, 4u);
  EXPECT_EQ(config.head_dim, 12u);
  EXPECT_EQ(config.max_position_embeddings, 2048u);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rope_scaling, std::nullopt);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.initializer_range, 0.02);
}

TEST(LlamaConfigTest, ReadsWhatIsWrittenAndNullAsNotGiven) {
  LlamaConfig config =
      Parsed(Json(R"("num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5,
      "rope_theta": 5e5, "rope_scaling": null, "tie_word_embeddings": true,
      "max_position_embeddings": 4096.0, "pretraining_tp": 1, "bos_token_id": [1, {"x": 1}])"));
  EXPECT_EQ(config.num_key_value_heads, 2u);
  EXPECT_EQ(config.head_dim, 16u);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 500000);
  EXPECT_EQ(config.max_position_embeddings, 4096u);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(Parsed(Json(R"("num_key_value_heads": null, "head_dim": null)")), Parsed(Json()));
}

TEST(LlamaConfigTest, AnArchitectureWithoutAModelTypeIsEnough) {
  std::string text = Json(R"("architectures": ["LlamaForCausalLM"])");
  text.erase(text.find("\"model_type\""), std::string("\"model_type\": \"llama\",").size());
  EXPECT_EQ(Parsed(text), Parsed(Json()));
}

TEST(LlamaConfigTest, RopeReadsTheSameInTheFormsOfTransformers4And5) {
  const std::string llama3 = R"("factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 8192)";
  LlamaConfig old_form = Parsed(
      Json(R"("rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", )" + llama3 + "}"));
  ASSERT_TRUE(old_form.rope_scaling.has_value());
  EXPECT_EQ(old_form.rope_scaling->factor, 32);
  EXPECT_EQ(old_form.rope_theta, 500000);
  EXPECT_EQ(Parsed(Json(R"("rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, )" +
                        llama3 + "}")),
            old_form);
  EXPECT_EQ(
      Parsed(Json(R"("rope_theta": 5e5, "rope_scaling": {"type": "llama3", )" + llama3 + "}")),
      old_form);
  EXPECT_EQ(Parsed(Json(R"("rope_parameters": {"rope_type": "default", "rope_theta": 10000.0})")),
            Parsed(Json()));
}

TEST(LlamaConfigTest, WhatIsWrittenIsReadBackEqual) {
  LlamaConfig config = Parsed(Json(R"("num_key_value_heads": 2, "head_dim": 16,
      "rms_norm_eps": 1.234567890123e-5, "rope_theta": 0.1, "tie_word_embeddings": true,
      "initializer_range": 0.03)"));
  EXPECT_EQ(Parsed(ToConfigJson(config, DType::kBf16)), config);
  config.rope_scaling = {.factor = 3.3,
                         .low_freq_factor = 1.5,
                         .high_freq_factor = 4,
                         .original_max_position_embeddings = 64};
  EXPECT_EQ(Parsed(ToConfigJson(config, DType::kF32)), config);
  EXPECT_THAT(ToConfigJson(config, DType::kBf16), HasSubstr(R"("torch_dtype": "bfloat16")"));
}

TEST(LlamaConfigTest, BadJsonNamesLineAndColumn) {
  ExpectRefused("{\n  \"vocab_size\": 12,\n  oops\n}", Code::kInvalidArgument, "config.json:3:3: ");
  ExpectRefused("", Code::kInvalidArgument, "config.json:1:1: ");
  ExpectRefused("{\"a\": \"\xff\"}", Code::kInvalidArgument, "config.json:1:8: ");
  ExpectRefused("[1, 2]", Code::kInvalidArgument, "must be a JSON object, is array");
  ExpectRefused(Json("\"rope_theta\": 1e999"), Code::kInvalidArgument, "1e999");
}

TEST(LlamaConfigTest, ADuplicateKeyIsAnErrorAtAnyDepth) {
  ExpectRefused(Json(R"("hidden_size": 64)"), Code::kInvalidArgument,
                "key 'hidden_size' is given twice");
  ExpectRefused(Json(R"("x": [{"a": {"b": 1}, "a": 2}])"), Code::kInvalidArgument,
                "key 'a' is given twice");
  EXPECT_TRUE(Refusal(Json(R"("x": [{"a": 1}, {"a": 2, "x": {"a": 3}}])")).ok());
}

TEST(LlamaConfigTest, MissingAndImpossibleValuesNameTheirKey) {
  std::string no_hidden_size = Json();
  no_hidden_size.replace(no_hidden_size.find("hidden_size"), 11, "hidden_sice");
  const Code invalid = Code::kInvalidArgument;
  ExpectRefused(no_hidden_size, invalid, "key 'hidden_size': is missing");
  ExpectRefused(Json("", "0"), invalid, "key 'num_attention_heads': must be an integer from 1");
  ExpectRefused(Json("", "-4"), invalid, "is -4");
  ExpectRefused(Json("", "4.5"), invalid, "is 4.5");
  ExpectRefused(Json("", "\"4\""), invalid, "is \"4\"");
  ExpectRefused(Json("", "1e9"), invalid, "key 'num_attention_heads'");
  ExpectRefused(Json("", "18446744073709551616"), invalid, "key 'num_attention_heads'");
  ExpectRefused(Json("", "5"), invalid, "48 is not a multiple of num_attention_heads 5");
  ExpectRefused(Json(R"("num_key_value_heads": 3)"), invalid, "num_key_value_heads 3");
  ExpectRefused(Json(R"("head_dim": 15)"), invalid, "key 'head_dim': 15 is odd");
  ExpectRefused(Json(R"("rms_norm_eps": 0)"), invalid, "key 'rms_norm_eps'");
  ExpectRefused(Json(R"("tie_word_embeddings": 1)"), invalid, "must be true or false, is 1");
  ExpectRefused(Json(R"("rope_scaling": {"rope_type": "llama3", "factor": 8})"), invalid,
                "key 'rope_scaling.low_freq_factor': is missing");
  ExpectRefused(Json(R"("rope_scaling": "linear")"), invalid, "key 'rope_scaling'");
}

TEST(LlamaConfigTest, WhatTheModelCodeDoesNotDoIsRefusedNotIgnored) {
  const Code unimplemented = Code::kUnimplemented;
  ExpectRefused(Json(R"("hidden_act": "gelu")"), unimplemented,
                "key 'hidden_act': gelu is not supported: only silu is");
  ExpectRefused(Json(R"("attention_bias": true)"), unimplemented, "key 'attention_bias'");
  ExpectRefused(Json(R"("mlp_bias": true)"), unimplemented, "key 'mlp_bias'");
  ExpectRefused(Json(R"("attention_dropout": 0.1)"), unimplemented, "key 'attention_dropout'");
  ExpectRefused(Json(R"("pretraining_tp": 2)"), unimplemented, "key 'pretraining_tp'");
  ExpectRefused(Json(R"("architectures": ["LlamaModel"])"), unimplemented, "LlamaForCausalLM");
  ExpectRefused(Json(R"("quantization_config": {})"), unimplemented, "quantization_config");
  ExpectRefused(Json(R"("rope_scaling": {"type": "linear", "factor": 2.0})"), unimplemented,
                "key 'rope_scaling.rope_type': linear");
  std::string mistral = Json();
  mistral.replace(mistral.find("\"llama\""), 7, "\"mistral\"");
  ExpectRefused(mistral, unimplemented,
                "key 'model_type': mistral is not supported: only llama is");
}

// The config.json of meta-llama/Llama-3.2-1B.
TEST(LlamaConfigTest, APublishedConfigurationIsReadAndHasItsPublishedSize) {
  LlamaConfig config = Parsed(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
    "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})");
  EXPECT_EQ(NumParameters(config), 1235814400u);
  EXPECT_EQ(config.rope_scaling->factor, 32);
}

TEST(LlamaConfigTest, NumParametersCountsEveryTensorOfEveryUnit) {
  for (const char* extra : {R"("tie_word_embeddings": true)", R"("tie_word_embeddings": false)",
                            R"("num_key_value_heads": 2, "head_dim": 20)"}) {
    LlamaConfig config = Parsed(Json(extra));
    uint64_t sum = 0;
    for (const UnitSpec& unit : UnitsOf(config)) {
      for (const TensorSpec& tensor : unit.tensors) sum += tensor.num_elements;
    }
    EXPECT_EQ(NumParameters(config), sum) << extra;
  }
  // Llama 2 7B, whose size is known.
  LlamaConfig llama2 = {.vocab_size = 32000,
                        .hidden_size = 4096,
                        .intermediate_size = 11008,
                        .num_hidden_layers = 32,
                        .num_attention_heads = 32,
                        .num_key_value_heads = 32,
                        .head_dim = 128};
  EXPECT_EQ(NumParameters(llama2), 6738415616u);
}

}  // namespace
}  // namespace strata::engine
