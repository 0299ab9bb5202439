#include "engine/model/model_presets.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

constexpr std::string_view kLlama1 = "Llama, arXiv 2302.13971, table 2";
constexpr std::string_view kLlama2 = "Llama 2, arXiv 2307.09288, and its config.json";
constexpr std::string_view kLlama3 = "Llama 3, arXiv 2407.21783, table 3, and its config.json";
constexpr std::string_view kLlama32 = "Llama 3.2's config.json";
constexpr std::string_view kGpt2 = "GPT-2's config.json";
constexpr std::string_view kGpt3 = "GPT-3, arXiv 2005.14165, table 2.1";

LlamaConfig Llama(uint64_t hidden, uint64_t intermediate, uint64_t layers, uint64_t heads,
                  uint64_t positions) {
  return {.vocab_size = 32000,
          .hidden_size = hidden,
          .intermediate_size = intermediate,
          .num_hidden_layers = layers,
          .num_attention_heads = heads,
          .num_key_value_heads = heads,
          .head_dim = hidden / heads,
          .max_position_embeddings = positions,
          .rms_norm_eps = positions == 2048 ? 1e-6 : 1e-5};
}

LlamaConfig Llama3(uint64_t hidden, uint64_t intermediate, uint64_t layers, uint64_t heads,
                   uint64_t positions) {
  LlamaConfig config = Llama(hidden, intermediate, layers, heads, positions);
  config.vocab_size = 128256;
  config.num_key_value_heads = 8;
  config.rope_theta = 500000;
  config.rms_norm_eps = 1e-5;
  return config;
}

LlamaConfig Scaled(LlamaConfig config, double factor, bool tied) {
  config.rope_scaling = Llama3RopeScaling{.factor = factor};
  config.tie_word_embeddings = tied;
  return config;
}

LlamaConfig Llama2With8KeyValueHeads() {
  LlamaConfig config = Llama(8192, 28672, 80, 64, 4096);
  config.num_key_value_heads = 8;
  return config;
}

LlamaConfig Gpt(uint64_t hidden, uint64_t layers, uint64_t heads, uint64_t positions) {
  constexpr uint64_t kMultiple = 64;
  uint64_t intermediate = (hidden * 8 / 3 + kMultiple / 2) / kMultiple * kMultiple;
  LlamaConfig config = Llama(hidden, intermediate, layers, heads, positions);
  config.vocab_size = 50304;  // 50257, padded to a multiple of 64
  config.tie_word_embeddings = true;
  return config;
}

std::vector<ModelPreset> MakePresets() {
  using enum ModelFamily;
  return {
      {"llama-7b", kLlama, Llama(4096, 11008, 32, 32, 2048), kLlama1},
      {"llama-13b", kLlama, Llama(5120, 13824, 40, 40, 2048), kLlama1},
      {"llama-30b", kLlama, Llama(6656, 17920, 60, 52, 2048), kLlama1},
      {"llama-65b", kLlama, Llama(8192, 22016, 80, 64, 2048), kLlama1},
      {"llama-2-7b", kLlama, Llama(4096, 11008, 32, 32, 4096), kLlama2},
      {"llama-2-13b", kLlama, Llama(5120, 13824, 40, 40, 4096), kLlama2},
      {"llama-2-70b", kLlama, Llama2With8KeyValueHeads(), kLlama2},
      {"llama-3.2-1b", kLlama, Scaled(Llama3(2048, 8192, 16, 32, 131072), 32, true), kLlama32},
      {"llama-3.2-3b", kLlama, Scaled(Llama3(3072, 8192, 28, 24, 131072), 32, true), kLlama32},
      {"llama-3-8b", kLlama, Llama3(4096, 14336, 32, 32, 8192), kLlama3},
      {"llama-3-70b", kLlama, Llama3(8192, 28672, 80, 64, 8192), kLlama3},
      {"llama-3.1-8b", kLlama, Scaled(Llama3(4096, 14336, 32, 32, 131072), 8, false), kLlama3},
      {"llama-3.1-70b", kLlama, Scaled(Llama3(8192, 28672, 80, 64, 131072), 8, false), kLlama3},
      {"llama-3.1-405b", kLlama, Scaled(Llama3(16384, 53248, 126, 128, 131072), 8, false), kLlama3},
      {"gpt2", kGpt, Gpt(768, 12, 12, 1024), kGpt2},
      {"gpt2-xl", kGpt, Gpt(1600, 48, 25, 1024), kGpt2},
      {"gpt-13b", kGpt, Gpt(5120, 40, 40, 2048),
       "40 layers of 5120, as in LoHan, arXiv 2403.06504"},
      {"gpt-70b", kGpt, Gpt(8192, 80, 64, 2048),
       "80 layers of 8192, as in MLP-Offload, arXiv 2509.02480"},
      {"gpt-175b", kGpt, Gpt(12288, 96, 96, 2048), kGpt3},
      {"gpt-1t", kGpt, Gpt(25600, 128, 160, 2048),
       "128 layers of 25600, as in ZeRO-Infinity, arXiv 2104.07857"},
  };
}

}  // namespace

std::span<const ModelPreset> ModelPresets() {
  static const std::vector<ModelPreset> presets = MakePresets();
  return presets;
}

Result<ModelPreset> FindModelPreset(std::string_view name) {
  std::string names;
  for (const ModelPreset& preset : ModelPresets()) {
    if (preset.name == name) return preset;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", preset.name);
  }
  return NotFound(fmt::format("no model preset is called '{}'; there are {}", name, names));
}

}  // namespace strata::engine
