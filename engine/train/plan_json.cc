#include "engine/train/plan_json.h"

#include <nlohmann/json.hpp>

namespace strata::engine {
namespace {

using nlohmann::ordered_json;
using prefetch::Node;
using prefetch::NodeKind;
using prefetch::Slot;
using prefetch::StepPlan;

ordered_json ToJson(const Slot& slot) {
  return {{"tier", tiering::TierName(slot.tier)},
          {"offset", slot.offset_bytes},
          {"bytes", slot.size_bytes}};
}

ordered_json ToJson(const StepPlan& plan, size_t index) {
  const Node& node = plan.nodes[index];
  ordered_json json;
  json["name"] = NodeName(plan, static_cast<prefetch::NodeIndex>(index));
  json["lane"] = prefetch::LaneName(node.lane);
  json["deps"] = node.deps;
  if (node.kind == NodeKind::kRun) {
    json["operands"] = ordered_json::array();
    for (const Slot& slot : node.operands) json["operands"].push_back(ToJson(slot));
    return json;
  }
  json["version"] = node.version;
  if (node.kind != NodeKind::kRead) json["from"] = ToJson(node.from);
  if (node.kind != NodeKind::kWrite) json["to"] = ToJson(node.to);
  return json;
}

}  // namespace

std::string PlanJson(const StepPlan& plan) {
  ordered_json json;
  json["prefetch_ops"] = plan.prefetch_ops;
  json["budgets"] = {{"device", plan.budgets.device_bytes}, {"host", plan.budgets.host_bytes}};
  json["peaks"] = {{"device", plan.peak_device_bytes}, {"host", plan.peak_host_bytes}};
  json["residents"] = ordered_json::array();
  for (const prefetch::Resident& resident : plan.residents) {
    ordered_json entry = ToJson(resident.slot);
    entry["block"] = plan.trace.blocks[Index(resident.block)].name;
    entry["is_home"] = resident.is_home;
    json["residents"].push_back(std::move(entry));
  }
  json["nodes"] = ordered_json::array();
  for (size_t i = 0; i < plan.nodes.size(); ++i) json["nodes"].push_back(ToJson(plan, i));
  return json.dump();
}

}  // namespace strata::engine
