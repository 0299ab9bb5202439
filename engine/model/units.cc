#include "engine/model/units.h"

#include <fmt/format.h>

#include <utility>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

constexpr uint64_t kAlignmentElements = 64;

// Lays tensors one after the other, each at a multiple of the alignment.
class UnitBuilder {
 public:
  UnitBuilder(std::string name, UnitKind kind) : unit_{std::move(name), kind, {}, 0} {}

  UnitBuilder& Norm(std::string name, uint64_t size) {
    return Append(std::move(name), {size}, true);
  }
  UnitBuilder& Matrix(std::string name, uint64_t rows, uint64_t cols) {
    return Append(std::move(name), {rows, cols}, false);
  }
  UnitSpec Build() { return std::move(unit_); }

 private:
  UnitBuilder& Append(std::string name, std::vector<uint64_t> shape, bool is_norm) {
    uint64_t num_elements = 1;
    for (uint64_t size : shape) num_elements *= size;
    unit_.tensors.push_back(
        {std::move(name), std::move(shape), unit_.num_elements, num_elements, is_norm});
    unit_.num_elements = RoundUp(unit_.num_elements + num_elements, kAlignmentElements);
    return *this;
  }

  UnitSpec unit_;
};

UnitSpec EmbeddingUnit(const LlamaConfig& config) {
  return UnitBuilder("embedding", UnitKind::kEmbedding)
      .Matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
      .Build();
}

UnitSpec AttentionUnit(const LlamaConfig& config, uint64_t layer) {
  const uint64_t hidden = config.hidden_size;
  const uint64_t query = config.num_attention_heads * config.head_dim;
  const uint64_t key_value = config.num_key_value_heads * config.head_dim;
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  return UnitBuilder(fmt::format("layers.{}.attention", layer), UnitKind::kAttention)
      .Norm(prefix + "input_layernorm.weight", hidden)
      .Matrix(prefix + "self_attn.q_proj.weight", query, hidden)
      .Matrix(prefix + "self_attn.k_proj.weight", key_value, hidden)
      .Matrix(prefix + "self_attn.v_proj.weight", key_value, hidden)
      .Matrix(prefix + "self_attn.o_proj.weight", hidden, query)
      .Build();
}

UnitSpec MlpUnit(const LlamaConfig& config, uint64_t layer) {
  const uint64_t hidden = config.hidden_size;
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  return UnitBuilder(fmt::format("layers.{}.mlp", layer), UnitKind::kMlp)
      .Norm(prefix + "post_attention_layernorm.weight", hidden)
      .Matrix(prefix + "mlp.gate_proj.weight", config.intermediate_size, hidden)
      .Matrix(prefix + "mlp.up_proj.weight", config.intermediate_size, hidden)
      .Matrix(prefix + "mlp.down_proj.weight", hidden, config.intermediate_size)
      .Build();
}

UnitSpec HeadUnit(const LlamaConfig& config) {
  UnitBuilder builder("head", UnitKind::kHead);
  builder.Norm("model.norm.weight", config.hidden_size);
  if (!config.tie_word_embeddings) {
    builder.Matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  }
  return builder.Build();
}

}  // namespace

UnitSpec UnitOf(const LlamaConfig& config, UnitKind kind, uint64_t layer) {
  switch (kind) {
    case UnitKind::kEmbedding:
      return EmbeddingUnit(config);
    case UnitKind::kAttention:
      return AttentionUnit(config, layer);
    case UnitKind::kMlp:
      return MlpUnit(config, layer);
    case UnitKind::kHead:
      break;
  }
  return HeadUnit(config);
}

std::vector<UnitSpec> UnitsOf(const LlamaConfig& config) {
  std::vector<UnitSpec> units;
  units.reserve(2 * config.num_hidden_layers + 2);
  units.push_back(UnitOf(config, UnitKind::kEmbedding, 0));
  for (uint64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    units.push_back(UnitOf(config, UnitKind::kAttention, layer));
    units.push_back(UnitOf(config, UnitKind::kMlp, layer));
  }
  units.push_back(UnitOf(config, UnitKind::kHead, 0));
  return units;
}

}  // namespace strata::engine
