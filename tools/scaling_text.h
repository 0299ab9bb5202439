// How a run scales over a cluster, as a table and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/cluster/scaling.h"

namespace strata::tools {

std::string ScalingTable(const std::vector<engine::ScalingPoint>& points);
nlohmann::ordered_json ToJson(const std::vector<engine::ScalingPoint>& points);

}  // namespace strata::tools
