// A preflight in words, tables and JSON.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "aio/preflight.h"
#include "tools/terminal.h"

namespace strata::tools {

// A table per subject; below them the problems, then the notes, each with what fixes it, wrapped
// to `width`.
std::string DescribePreflights(std::span<const aio::Preflight> preflights, Colour colour,
                               size_t width);

// {"problems": 1, "subjects": [{"subject": "/nvme0", "findings": [{"key": ...}]}]}
std::string PreflightsToJson(std::span<const aio::Preflight> preflights);

}  // namespace strata::tools
