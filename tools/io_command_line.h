// The flags of strata io.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/io_commands.h"

namespace strata::tools {

struct IoCommandLine {
  IoBenchArguments bench;
  IoTuneArguments tune;
  IoCheckArguments check;
};

// Adds `strata io` and what is below it. `line` outlives the parsing and `chosen`, which becomes
// the call of the subcommand that the user asked for.
void AddIo(CLI::App& app, IoCommandLine& line, std::function<int()>& chosen);

}  // namespace strata::tools
