// The flags of strata io tune.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/io_commands.h"

namespace strata::tools {

// `arguments` and `chosen` as in AddIo.
void AddIoTune(CLI::App& io, IoTuneArguments& arguments, std::function<int()>& chosen);

}  // namespace strata::tools
