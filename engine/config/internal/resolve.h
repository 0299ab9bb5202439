// What no single key can say: batch sizes that agree, the model's shape, combinations.
#pragma once

#include <string>
#include <vector>

#include "engine/config/run_config.h"

namespace strata::engine::config_internal {

// Fills in what is derived, and appends to `errors` what does not fit together. Messages start
// with `source`, the config's file.
void Resolve(const std::string& source, const std::string& model_config_path, RunConfig& config,
             std::vector<std::string>& errors);

}  // namespace strata::engine::config_internal
