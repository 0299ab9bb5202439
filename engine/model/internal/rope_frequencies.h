// The angles per position of rotary embedding.
#pragma once

#include <vector>

#include "engine/model/llama_config.h"

namespace strata::engine {

// head_dim / 2 values, in fp32 and in the order of operations of transformers, with the Llama-3
// scaling if the configuration asks for it.
std::vector<float> InverseFrequencies(const LlamaConfig& config);

}  // namespace strata::engine
