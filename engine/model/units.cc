#include "engine/model/units.h"

#include <fmt/format.h>

#include <utility>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::engine {
namespace {

constexpr uint64_t kAlignmentElements = 64;

uint64_t Product(const std::vector<uint64_t>& shape) {
  uint64_t product = 1;
  for (uint64_t size : shape) product *= size;
  return product;
}

// Lays tensors one after the other, each at a multiple of the alignment.
class UnitBuilder {
 public:
  UnitBuilder(std::string name, UnitKind kind) : unit_{std::move(name), kind, {}, 0} {}

  UnitBuilder& Norm(std::string name, uint64_t size) {
    return Append({.name = std::move(name), .shape = {size}, .is_norm = true});
  }
  UnitBuilder& Matrix(std::string name, uint64_t rows, uint64_t cols) {
    return Append({.name = std::move(name), .shape = {rows, cols}});
  }
  // Of a matrix with cut.extent rows or columns.
  UnitBuilder& Rows(std::string name, const Cut& cut, uint32_t part, uint64_t cols) {
    if (cut.num_parts() == 1) return Matrix(std::move(name), cut.extent, cols);
    return Append({.name = std::move(name),
                   .shape = {cut.size(part), cols},
                   .whole_shape = {cut.extent, cols},
                   .first_row = cut.begin(part)});
  }
  UnitBuilder& Columns(std::string name, const Cut& cut, uint32_t part, uint64_t rows) {
    if (cut.num_parts() == 1) return Matrix(std::move(name), rows, cut.extent);
    return Append({.name = std::move(name),
                   .shape = {rows, cut.size(part)},
                   .whole_shape = {rows, cut.extent},
                   .first_col = cut.begin(part)});
  }
  UnitSpec Build() { return std::move(unit_); }

 private:
  UnitBuilder& Append(TensorSpec tensor) {
    tensor.offset_elements = unit_.num_elements;
    tensor.num_elements = Product(tensor.shape);
    unit_.num_elements = RoundUp(unit_.num_elements + tensor.num_elements, kAlignmentElements);
    unit_.tensors.push_back(std::move(tensor));
    return *this;
  }

  UnitSpec unit_;
};

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

// A sublayer in one unit, or its norm in one and every part in another.
template <typename AddNorm, typename AddPart>
std::vector<UnitSpec> InParts(const std::string& name, UnitKind kind, uint32_t num_parts,
                              AddNorm&& add_norm, AddPart&& add_part) {
  UnitBuilder first(name, kind);
  add_norm(first);
  if (num_parts == 1) add_part(first, 0);
  std::vector<UnitSpec> units;
  units.push_back(first.Build());
  if (units.front().num_elements == 0) units.clear();  // the embedding has no norm
  for (uint32_t part = 0; num_parts > 1 && part < num_parts; ++part) {
    UnitBuilder unit(fmt::format("{}.{}", name, part), kind);
    add_part(unit, part);
    units.push_back(unit.Build());
  }
  return units;
}

std::vector<UnitSpec> EmbeddingUnits(const LlamaConfig& config, const Cut& cut) {
  return InParts(
      "embedding", UnitKind::kEmbedding, cut.num_parts(), [](UnitBuilder&) {},
      [&](UnitBuilder& unit, uint32_t part) {
        unit.Rows("model.embed_tokens.weight", cut, part, config.hidden_size);
      });
}

std::vector<UnitSpec> MlpUnits(const LlamaConfig& config, uint64_t layer, const Cut& cut) {
  const uint64_t hidden = config.hidden_size;
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  return InParts(
      fmt::format("layers.{}.mlp", layer), UnitKind::kMlp, cut.num_parts(),
      [&](UnitBuilder& unit) { unit.Norm(prefix + "post_attention_layernorm.weight", hidden); },
      [&](UnitBuilder& unit, uint32_t part) {
        unit.Rows(prefix + "mlp.gate_proj.weight", cut, part, hidden)
            .Rows(prefix + "mlp.up_proj.weight", cut, part, hidden)
            .Columns(prefix + "mlp.down_proj.weight", cut, part, hidden);
      });
}

std::vector<UnitSpec> HeadUnits(const LlamaConfig& config, const Cut& cut) {
  const bool tied = config.tie_word_embeddings;
  return InParts(
      "head", UnitKind::kHead, tied ? 1 : cut.num_parts(),
      [&](UnitBuilder& unit) { unit.Norm("model.norm.weight", config.hidden_size); },
      [&](UnitBuilder& unit, uint32_t part) {
        if (!tied) unit.Rows("lm_head.weight", cut, part, config.hidden_size);
      });
}

}  // namespace

TensorSpec WholeTensor(const TensorSpec& tensor) {
  TensorSpec whole{.name = tensor.name, .shape = tensor.shape, .is_norm = tensor.is_norm};
  if (tensor.is_part()) whole.shape = tensor.whole_shape;
  whole.num_elements = Product(whole.shape);
  return whole;
}

Cut CutOf(const LlamaConfig& config, UnitKind kind, uint64_t part_elements) {
  if (kind == UnitKind::kAttention) return {};
  const bool is_mlp = kind == UnitKind::kMlp;
  Cut cut;
  cut.extent = is_mlp ? config.intermediate_size : config.vocab_size;
  cut.step = cut.extent;
  const uint64_t elements = cut.extent * config.hidden_size * (is_mlp ? 3 : 1);
  if (elements <= part_elements) return cut;
  const uint64_t fewest = CeilDiv(elements, part_elements);
  cut.step = std::min(cut.extent, RoundUp(CeilDiv(cut.extent, fewest), kAlignmentElements));
  return cut;
}

std::vector<UnitSpec> UnitsOf(const LlamaConfig& config, UnitKind kind, uint64_t layer,
                              uint64_t part_elements) {
  const Cut cut = CutOf(config, kind, part_elements);
  switch (kind) {
    case UnitKind::kEmbedding:
      return EmbeddingUnits(config, cut);
    case UnitKind::kAttention:
      return {AttentionUnit(config, layer)};
    case UnitKind::kMlp:
      return MlpUnits(config, layer, cut);
    case UnitKind::kHead:
      break;
  }
  return HeadUnits(config, cut);
}

std::vector<UnitSpec> UnitsOf(const LlamaConfig& config, uint64_t part_elements) {
  std::vector<UnitSpec> units;
  auto append = [&](UnitKind kind, uint64_t layer) {
    for (UnitSpec& unit : UnitsOf(config, kind, layer, part_elements))
      units.push_back(std::move(unit));
  };
  append(UnitKind::kEmbedding, 0);
  for (uint64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    append(UnitKind::kAttention, layer);
    append(UnitKind::kMlp, layer);
  }
  append(UnitKind::kHead, 0);
  return units;
}

namespace {

bool IsNormAlone(const UnitSpec& unit) {
  return unit.tensors.size() == 1 && unit.tensors.front().is_norm;
}

// The sublayer that begins with units[first].
Sublayer SublayerAt(const std::vector<UnitSpec>& units, uint32_t first) {
  const UnitSpec& unit = units[first];
  Sublayer sublayer{.name = unit.name, .kind = unit.kind, .first_part = first, .num_parts = 1};
  if (unit.tensors.front().is_norm) sublayer.norm_unit = first;
  const bool is_apart = IsNormAlone(unit);
  if (is_apart) ++sublayer.first_part;
  const uint32_t second = sublayer.first_part;
  const bool in_parts = second < units.size() && units[second].kind == unit.kind &&
                        units[second].tensors.front().is_part();
  if (!in_parts) {
    if (is_apart) sublayer.num_parts = 0;  // a tied head
    return sublayer;
  }
  if (!is_apart) sublayer.name = sublayer.name.substr(0, sublayer.name.rfind('.'));
  auto is_further = [&](uint32_t i) {
    return i < units.size() && units[i].kind == unit.kind && units[i].tensors.front().is_part();
  };
  while (is_further(second + sublayer.num_parts)) ++sublayer.num_parts;
  return sublayer;
}

}  // namespace

std::vector<Sublayer> SublayersOf(const std::vector<UnitSpec>& units) {
  std::vector<Sublayer> sublayers;
  for (uint32_t unit = 0; unit < units.size();) {
    Sublayer sublayer = SublayerAt(units, unit);
    unit = std::max(unit + 1, sublayer.first_part + sublayer.num_parts);
    if (sublayer.num_parts == 0) {
      STRATA_CHECK(sublayer.kind == UnitKind::kHead && !sublayers.empty());
      sublayer.first_part = sublayers.front().first_part;
      sublayer.num_parts = sublayers.front().num_parts;
    }
    sublayers.push_back(std::move(sublayer));
  }
  return sublayers;
}

}  // namespace strata::engine
