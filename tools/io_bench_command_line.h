// The flags of strata io bench.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "tools/io_commands.h"

namespace strata::tools {

// `arguments` and `chosen` as in AddIo.
void AddIoBench(CLI::App& io, IoBenchArguments& arguments, std::function<int()>& chosen);

}  // namespace strata::tools
