// The flags of strata checkpoint.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/checkpoint_commands.h"

namespace strata::tools {

struct CheckpointCommandLine {
  CheckpointListArguments list;
  CheckpointVerifyArguments verify;
  CheckpointExportArguments export_to;
  CheckpointPruneArguments prune;
};

// `chosen` becomes the call of the subcommand that was given; `line` outlives it.
void AddCheckpoint(CLI::App& app, CheckpointCommandLine& line, std::function<int()>& chosen);

}  // namespace strata::tools
