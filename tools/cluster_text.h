// Comparisons, advice and what inference takes, in words, tables and JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/cluster/cluster.h"
#include "engine/cluster/comparison.h"
#include "engine/cluster/largest_model.h"

namespace strata::tools {

// What the machine is taken for, with where its numbers come from.
std::string DescribeCluster(const engine::Cluster& cluster);

// "yes", "no: gpu +12 GiB".
std::string FitsText(const engine::PlanOutcome& outcome);
std::string ComparisonTable(const std::vector<engine::PlanOutcome>& outcomes);
std::string AdviceText(const std::vector<engine::Advice>& advice);
std::string LargestText(const engine::LlamaConfig& shape, const engine::LlamaConfig& largest);
std::string InferenceText(const engine::RunConfig& config);

nlohmann::ordered_json ToJson(const engine::PlanOutcome& outcome);
nlohmann::ordered_json ToJson(const std::vector<engine::Advice>& advice);
nlohmann::ordered_json ShapeJson(const engine::LlamaConfig& shape);
nlohmann::ordered_json InferenceJson(const engine::RunConfig& config);

}  // namespace strata::tools
