#include "engine/model/llama_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/model/internal/json_members.h"

namespace strata::engine {
namespace {

using nlohmann::json;

// Far above any model there is, and low enough that no product of sizes overflows 64 bits.
constexpr uint64_t kMaxVocabSize = 1u << 30;  // token ids are int32
constexpr uint64_t kMaxHiddenSize = 1u << 20;
constexpr uint64_t kMaxIntermediateSize = 1u << 22;
constexpr uint64_t kMaxLayers = 1u << 14;
constexpr uint64_t kMaxHeads = 1u << 12;
constexpr uint64_t kMaxHeadDim = 1u << 12;
constexpr uint64_t kMaxPositions = 1u << 30;
constexpr double kMaxReal = 1e30;

// A member that must be as given for this model code to compute what was trained.
template <typename T>
void Require(JsonMembers& members, const char* key, const T& value, const T& supported) {
  if (value == supported) return;
  members.Refuse(key, fmt::format("{} is not supported: only {} is", value, supported),
                 Code::kUnimplemented);
}

void CheckModelType(JsonMembers& members, const json& object) {
  json architectures = object.value("architectures", json());
  bool is_causal_lm = architectures == json::array({"LlamaForCausalLM"});
  if (!architectures.is_null() && !is_causal_lm) {
    members.Refuse("architectures", "only [\"LlamaForCausalLM\"] is supported",
                   Code::kUnimplemented);
  }
  std::string fallback = is_causal_lm ? "llama" : "(missing)";
  Require<std::string>(members, "model_type", members.String("model_type", fallback), "llama");
}

void CheckUnsupported(JsonMembers& members) {
  Require<std::string>(members, "hidden_act", members.String("hidden_act", "silu"), "silu");
  Require(members, "attention_bias", members.Boolean("attention_bias", false), false);
  Require(members, "mlp_bias", members.Boolean("mlp_bias", false), false);
  Require<uint64_t>(members, "pretraining_tp", members.Integer("pretraining_tp", kMaxHeads, 1), 1);
  Require(members, "attention_dropout", members.Real("attention_dropout", -1, 1, 0), 0.0);
  Require(members, "partial_rotary_factor", members.Real("partial_rotary_factor", 0, 1, 1), 1.0);
  if (members.Has("quantization_config")) {
    members.Refuse("quantization_config", "quantized weights are not supported: remove the key",
                   Code::kUnimplemented);
  }
}

void CheckShape(JsonMembers& members, const LlamaConfig& config) {
  if (config.hidden_size % config.num_attention_heads != 0) {  // transformers refuses it, too
    members.Refuse("hidden_size", fmt::format("{} is not a multiple of num_attention_heads {}",
                                              config.hidden_size, config.num_attention_heads));
  }
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    members.Refuse("num_attention_heads",
                   fmt::format("{} is not a multiple of num_key_value_heads {}",
                               config.num_attention_heads, config.num_key_value_heads));
  }
  if (config.head_dim % 2 != 0) {
    members.Refuse("head_dim",
                   fmt::format("{} is odd: rotary embedding needs pairs", config.head_dim));
  }
}

Llama3RopeScaling ReadLlama3(JsonMembers& rope) {
  Llama3RopeScaling scaling = {
      .factor = rope.Real("factor", 0, kMaxReal),
      .low_freq_factor = rope.Real("low_freq_factor", 0, kMaxReal),
      .high_freq_factor = rope.Real("high_freq_factor", 0, kMaxReal),
      .original_max_position_embeddings =
          rope.Integer("original_max_position_embeddings", kMaxPositions),
  };
  if (rope.ok() && scaling.high_freq_factor <= scaling.low_freq_factor) {
    rope.Refuse("high_freq_factor", fmt::format("{} must be above low_freq_factor {}",
                                                scaling.high_freq_factor, scaling.low_freq_factor));
  }
  return scaling;
}

// transformers 4 has rope_theta and rope_scaling, transformers 5 writes both as rope_parameters.
void ReadRope(const json& object, std::string_view source, Status* status, LlamaConfig& config) {
  JsonMembers members(object, source, "", status);
  config.rope_theta = members.Real("rope_theta", 0, kMaxReal, config.rope_theta);
  const char* key = members.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!members.Has(key)) return;
  const json& rope_object = object.at(key);
  if (!rope_object.is_object()) return members.Refuse(key, "must be an object or null");
  const std::string prefix = std::string(key) + ".";
  JsonMembers rope(rope_object, source, prefix, status);
  config.rope_theta = rope.Real("rope_theta", 0, kMaxReal, config.rope_theta);
  Require(rope, "partial_rotary_factor", rope.Real("partial_rotary_factor", 0, 1, 1), 1.0);
  std::string type = rope.String("rope_type", rope.String("type", "default"));
  if (type == "llama3") {
    config.rope_scaling = ReadLlama3(rope);
  } else if (type != "default") {
    rope.Refuse("rope_type", fmt::format("{} is not supported: only default and llama3 are", type),
                Code::kUnimplemented);
  }
}

void ReadSizes(JsonMembers& members, LlamaConfig& config) {
  config.vocab_size = members.Integer("vocab_size", kMaxVocabSize);
  config.hidden_size = members.Integer("hidden_size", kMaxHiddenSize);
  config.intermediate_size = members.Integer("intermediate_size", kMaxIntermediateSize);
  config.num_hidden_layers = members.Integer("num_hidden_layers", kMaxLayers);
  config.num_attention_heads = members.Integer("num_attention_heads", kMaxHeads);
  config.num_key_value_heads =
      members.Integer("num_key_value_heads", kMaxHeads, config.num_attention_heads);
  config.head_dim =
      members.Integer("head_dim", kMaxHeadDim, config.hidden_size / config.num_attention_heads);
  config.max_position_embeddings =
      members.Integer("max_position_embeddings", kMaxPositions, config.max_position_embeddings);
}

const char* TorchName(DType dtype) {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kBf16 ? "bfloat16" : "float16";
}

}  // namespace

Result<LlamaConfig> ParseLlamaConfig(std::string_view json_text, std::string_view source) {
  STRATA_ASSIGN_OR_RETURN(json object, ParseJsonObject(json_text, source));
  Status status;
  JsonMembers members(object, source, "", &status);
  CheckModelType(members, object);
  CheckUnsupported(members);
  LlamaConfig config;
  ReadSizes(members, config);
  if (members.ok()) CheckShape(members, config);
  config.rms_norm_eps = members.Real("rms_norm_eps", 0, 1, config.rms_norm_eps);
  config.initializer_range = members.Real("initializer_range", 0, 1, config.initializer_range);
  config.tie_word_embeddings = members.Boolean("tie_word_embeddings", false);
  ReadRope(object, source, &status, config);
  if (!status.ok()) return status;
  return config;
}

std::string ToConfigJson(const LlamaConfig& config, DType torch_dtype) {
  json object = {
      {"architectures", {"LlamaForCausalLM"}},
      {"model_type", "llama"},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"num_hidden_layers", config.num_hidden_layers},
      {"num_attention_heads", config.num_attention_heads},
      {"num_key_value_heads", config.num_key_value_heads},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"max_position_embeddings", config.max_position_embeddings},
      {"initializer_range", config.initializer_range},
      {"rms_norm_eps", config.rms_norm_eps},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"attention_bias", false},
      {"mlp_bias", false},
      // transformers 5 still reads this older form; 4 does not know the newer one.
      {"rope_theta", config.rope_theta},
      {"rope_scaling", nullptr},
      {"torch_dtype", TorchName(torch_dtype)},
  };
  if (const auto& scaling = config.rope_scaling) {
    object["rope_scaling"] = {
        {"rope_type", "llama3"},
        {"factor", scaling->factor},
        {"low_freq_factor", scaling->low_freq_factor},
        {"high_freq_factor", scaling->high_freq_factor},
        {"original_max_position_embeddings", scaling->original_max_position_embeddings},
    };
  }
  return object.dump(2) + "\n";
}

uint64_t NumParameters(const LlamaConfig& config) {
  const uint64_t hidden = config.hidden_size;
  const uint64_t query = config.num_attention_heads * config.head_dim;
  const uint64_t key_value = config.num_key_value_heads * config.head_dim;
  const uint64_t attention = hidden + 2 * hidden * (query + key_value);
  const uint64_t mlp = hidden + 3 * hidden * config.intermediate_size;
  const uint64_t tables = config.tie_word_embeddings ? 1 : 2;
  return tables * config.vocab_size * hidden + config.num_hidden_layers * (attention + mlp) +
         hidden;
}

}  // namespace strata::engine
