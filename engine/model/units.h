// A model cut into units: the pieces that are fetched together.
//
// A model is a chain of sublayers: the embedding, (attention, mlp) x layers, the head. Most are one
// unit. Embedding, mlp and head are cut into parts where they are large: along the vocabulary, or
// along the intermediate size. Every part is a unit then, and so is what belongs to no part, the
// norm. How a model is cut depends on itself and on one number that a run keeps for ever, never on
// budgets; an op may take several parts at once (a tile), and sums go over parts in a fixed order,
// so that how many it takes shows in no bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/llama_config.h"

namespace strata::engine {

enum class UnitKind : uint8_t { kEmbedding, kAttention, kMlp, kHead };

// A tensor, or some of its rows or columns.
struct TensorSpec {
  std::string name;              // Hugging Face's: "model.layers.3.mlp.up_proj.weight"
  std::vector<uint64_t> shape;   // row-major; a matrix is [out_features, in_features]
  uint64_t offset_elements = 0;  // in its unit, a multiple of 64
  uint64_t num_elements = 0;
  bool is_norm = false;  // RMSNorm weight: starts at 1, usually not decayed
  // Of a part: the tensor's own shape, and where in it the part begins.
  std::vector<uint64_t> whole_shape = {};
  uint64_t first_row = 0;
  uint64_t first_col = 0;

  bool is_part() const { return !whole_shape.empty(); }
};
// The tensor that a part is of, itself if it is none; with no place in a unit.
TensorSpec WholeTensor(const TensorSpec& tensor);

// Units stand in the order of the forward pass; of a sublayer in parts, first the norm's. The head
// holds the final norm and, if embeddings are not tied, lm_head.
struct UnitSpec {
  // "embedding", "layers.3.attention", "layers.3.mlp", "head"; of parts "layers.3.mlp.0", ...
  std::string name;
  UnitKind kind = UnitKind::kEmbedding;
  std::vector<TensorSpec> tensors;
  uint64_t num_elements = 0;  // flattened with gaps, a multiple of 64; gaps are zero for ever
};

// How a sublayer is cut: part p has [p * step, min((p + 1) * step, extent)) of the vocabulary's
// rows or the intermediate columns. Attention is not cut.
struct Cut {
  uint64_t extent = 1;
  uint64_t step = 1;

  uint32_t num_parts() const { return static_cast<uint32_t>((extent + step - 1) / step); }
  uint64_t begin(uint32_t part) const { return part * step; }
  uint64_t size(uint32_t part) const { return std::min(step, extent - begin(part)); }
};

// Parts have about `part_elements` weights at most.
Cut CutOf(const LlamaConfig& config, UnitKind kind, uint64_t part_elements);

constexpr uint64_t kUncut = ~uint64_t{0};
std::vector<UnitSpec> UnitsOf(const LlamaConfig& config, uint64_t part_elements = kUncut);
// The units of one sublayer. `layer` counts for attention and mlp only.
std::vector<UnitSpec> UnitsOf(const LlamaConfig& config, UnitKind kind, uint64_t layer,
                              uint64_t part_elements);

// Where a sublayer's weights are among the units.
struct Sublayer {
  std::string name;  // "embedding", "layers.3.mlp"
  UnitKind kind = UnitKind::kEmbedding;
  std::optional<uint32_t> norm_unit = std::nullopt;  // that begins with its norm; may be a part
  uint32_t first_part = 0;                           // a unit; of a tied head the embedding's
  uint32_t num_parts = 0;

  // The norm has a unit of its own.
  bool has_norm_apart() const {
    return norm_unit && (*norm_unit < first_part || *norm_unit >= first_part + num_parts);
  }
};
// `units` as UnitsOf makes them.
std::vector<Sublayer> SublayersOf(const std::vector<UnitSpec>& units);

}  // namespace strata::engine
