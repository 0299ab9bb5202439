// What a command that strata launch starts needs to be near.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/launch/wishes.h"

namespace strata::tools {

// As launch::ReadRunNeeds has it: of `PROGRAM train RUN.toml ...` what the configuration says. A
// build without CUDA uses no GPU in "auto".
launch::RunNeeds NeedsOf(const std::vector<std::string>& command, uint32_t world_size);

}  // namespace strata::tools
