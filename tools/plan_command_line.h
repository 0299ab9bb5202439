// The flags of strata plan.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/plan_arguments.h"

namespace strata::tools {

void AddPlanOptions(CLI::App* command, PlanArguments* arguments);

}  // namespace strata::tools
