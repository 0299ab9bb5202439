// What no single key can say: batch sizes that agree, the model's shape, combinations.
#pragma once

#include <string>
#include <vector>

#include "engine/config/internal/reader.h"
#include "engine/config/run_config.h"

namespace strata::engine::config_internal {

// Fills in what is derived, and appends to `errors` what does not fit together. Messages start
// with where the values come from, which `reader` knows.
void Resolve(const Reader& reader, const std::string& model_config_path, RunConfig& config,
             std::vector<std::string>& errors);

}  // namespace strata::engine::config_internal
