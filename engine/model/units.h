// A model cut into units: the pieces that are fetched together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/llama_config.h"

namespace strata::engine {

enum class UnitKind : uint8_t { kEmbedding, kAttention, kMlp, kHead };

struct TensorSpec {
  std::string name;              // Hugging Face's: "model.layers.3.mlp.up_proj.weight"
  std::vector<uint64_t> shape;   // row-major; a matrix is [out_features, in_features]
  uint64_t offset_elements = 0;  // in its unit, a multiple of 64
  uint64_t num_elements = 0;
  bool is_norm = false;  // RMSNorm weight: starts at 1, usually not decayed
};

// The order of units is the order of the forward pass: embedding, (attention, mlp) x layers, head.
// The head holds the final norm and, if embeddings are not tied, lm_head.
struct UnitSpec {
  std::string name;  // "embedding", "layers.3.attention", "layers.3.mlp", "head"
  UnitKind kind = UnitKind::kEmbedding;
  std::vector<TensorSpec> tensors;
  uint64_t num_elements = 0;  // flattened with gaps, a multiple of 64; gaps are zero for ever
};

std::vector<UnitSpec> UnitsOf(const LlamaConfig& config);
// One of them. `layer` counts for attention and MLP only.
UnitSpec UnitOf(const LlamaConfig& config, UnitKind kind, uint64_t layer);

}  // namespace strata::engine
