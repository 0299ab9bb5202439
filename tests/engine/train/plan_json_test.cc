#include "engine/train/plan_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/prefetch/hand_plan.h"

namespace strata::engine {
namespace {

class PlanJsonTest : public testing::Test {
 protected:
  prefetch::StepPlan plan_ = prefetch::HandPlan();
  nlohmann::json json_ = nlohmann::json::parse(PlanJson(plan_));
};

TEST_F(PlanJsonTest, HasEveryNodeInOrderWithItsNameLaneAndDependencies) {
  ASSERT_EQ(json_["nodes"].size(), plan_.nodes.size());
  for (size_t i = 0; i < plan_.nodes.size(); ++i) {
    const nlohmann::json& node = json_["nodes"][i];
    EXPECT_EQ(node["name"], NodeName(plan_, static_cast<prefetch::NodeIndex>(i)));
    EXPECT_EQ(node["lane"], prefetch::LaneName(plan_.nodes[i].lane));
    EXPECT_EQ(node["deps"], plan_.nodes[i].deps);
  }
}

// The first, second, third and seventh row of the table in hand_plan.h.
TEST_F(PlanJsonTest, SaysWhereEachNodeFindsAndLeavesItsBytes) {
  const nlohmann::json host = {{"tier", "host"}, {"offset", 0}, {"bytes", 8192}};
  const nlohmann::json device = {{"tier", "device"}, {"offset", 0}, {"bytes", 8192}};
  const nlohmann::json& read = json_["nodes"][0];
  EXPECT_EQ(read["to"], host);
  EXPECT_FALSE(read.contains("from"));
  const nlohmann::json& copy = json_["nodes"][1];
  EXPECT_EQ(copy["from"], host);
  EXPECT_EQ(copy["to"], device);
  const nlohmann::json& forward = json_["nodes"][2];
  EXPECT_EQ(forward["operands"].size(), 2u);
  EXPECT_EQ(forward["operands"][0], device);
  const nlohmann::json& write = json_["nodes"][6];
  EXPECT_EQ(write["from"], host);
  EXPECT_FALSE(write.contains("to"));
}

TEST_F(PlanJsonTest, NamesWhatStaysAndTheBudgets) {
  EXPECT_EQ(json_["budgets"]["host"], plan_.budgets.host_bytes);
  EXPECT_EQ(json_["budgets"]["device"], plan_.budgets.device_bytes);
  EXPECT_EQ(json_["peaks"]["host"], plan_.peak_host_bytes);
  ASSERT_EQ(json_["residents"].size(), plan_.residents.size());
  ASSERT_FALSE(plan_.residents.empty());
  for (size_t i = 0; i < plan_.residents.size(); ++i) {
    const prefetch::Resident& resident = plan_.residents[i];
    EXPECT_EQ(json_["residents"][i]["block"], plan_.trace.blocks[Index(resident.block)].name);
    EXPECT_EQ(json_["residents"][i]["is_home"], resident.is_home);
  }
}

}  // namespace
}  // namespace strata::engine
