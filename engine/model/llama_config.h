// The Llama family, as Hugging Face's config.json describes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"

namespace strata::engine {

// rope_scaling of type "llama3" (Llama 3.1): low frequencies divided by `factor`, high ones kept,
// a linear blend in between.
struct Llama3RopeScaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  uint64_t original_max_position_embeddings = 8192;

  friend bool operator==(const Llama3RopeScaling&, const Llama3RopeScaling&) = default;
};

struct LlamaConfig {
  uint64_t vocab_size = 0;
  uint64_t hidden_size = 0;
  uint64_t intermediate_size = 0;
  uint64_t num_hidden_layers = 0;
  uint64_t num_attention_heads = 0;
  uint64_t num_key_value_heads = 0;
  uint64_t head_dim = 0;
  uint64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> rope_scaling = std::nullopt;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;

  friend bool operator==(const LlamaConfig&, const LlamaConfig&) = default;
};

// `source` (a path) goes into messages. kInvalidArgument for bad JSON (line and column), duplicate
// keys, missing or out-of-range values (heads that do not divide, ...); kUnimplemented for what
// this model code does not do (attention_bias, mlp_bias, other hidden_act, other rope_type or
// model_type), naming the key and the supported values. Unknown keys are ignored, as they are many.
Result<LlamaConfig> ParseLlamaConfig(std::string_view json_text, std::string_view source);

// config.json for transformers' LlamaForCausalLM; torch_dtype as given.
std::string ToConfigJson(const LlamaConfig& config, DType torch_dtype);

uint64_t NumParameters(const LlamaConfig& config);

}  // namespace strata::engine
