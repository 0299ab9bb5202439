// Models by name: shapes that people plan and train, each with the source of its numbers.
#pragma once

#include <span>
#include <string_view>

#include "aio/base/status.h"
#include "engine/model/llama_config.h"

namespace strata::engine {

// Which published architecture a preset stands for.
enum class ModelFamily : uint8_t {
  kLlama,
  // A GPT: planned as a Llama with as many parameters per layer. A GPT's two MLP matrices of
  // hidden x 4 hidden are three of hidden x 8/3 hidden here (a multiple of 64); biases and learned
  // positions, less than 0.1 % of the parameters, are left out.
  kGpt,
};

struct ModelPreset {
  std::string_view name;  // "llama-7b"
  ModelFamily family = ModelFamily::kLlama;
  LlamaConfig config;
  std::string_view source;
};

// By family, then size.
std::span<const ModelPreset> ModelPresets();

// kNotFound lists the names.
Result<ModelPreset> FindModelPreset(std::string_view name);

}  // namespace strata::engine
