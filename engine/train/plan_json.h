// A step plan as JSON: plan.json of a run directory.
#pragma once

#include <string>

#include "prefetch/step_plan.h"

namespace strata::engine {

// {"budgets", "peaks", "residents": [...], "nodes": [{"name", "lane", "deps", "from"/"to"/
// "operands": {"tier", "offset", "bytes"}}, ...]}, nodes in plan order.
std::string PlanJson(const prefetch::StepPlan& plan);

}  // namespace strata::engine
