#include "prefetch/internal/happens_before.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <random>
#include <set>
#include <vector>

namespace strata::prefetch {
namespace {

constexpr NodeIndex kNumNodes = 120;

StepPlan RandomPlan(uint32_t seed) {
  std::mt19937 random(seed);
  auto below = [&](uint32_t end) { return static_cast<uint32_t>(random() % end); };
  StepPlan plan;
  for (NodeIndex index = 0; index < kNumNodes; ++index) {
    // Half of them transfers of a drive, whose order among each other is nobody's but theirs.
    const Lane lane = static_cast<Lane>(below(2) == 0 ? below(2) : below(kNumLanes));
    std::set<NodeIndex> deps;
    while (index > 0 && below(3) > 0) deps.insert(index - 1 - below(std::min(index, 20u)));
    plan.nodes.push_back({.lane = lane, .deps = {deps.begin(), deps.end()}});
  }
  return plan;
}

// A row per node of all nodes that are over before it: the definition.
std::vector<std::array<bool, kNumNodes>> ClosureOf(const StepPlan& plan) {
  std::vector<std::array<bool, kNumNodes>> before(kNumNodes);
  std::array<std::optional<NodeIndex>, kNumLanes> last_on_lane;
  for (NodeIndex index = 0; index < kNumNodes; ++index) {
    const Node& node = plan.nodes[index];
    std::vector<NodeIndex> waits_for = node.deps;
    std::optional<NodeIndex>& last = last_on_lane[static_cast<size_t>(node.lane)];
    if (IsSerial(node.lane) && last) waits_for.push_back(*last);
    last = index;
    for (NodeIndex dep : waits_for) {
      before[index][dep] = true;
      for (NodeIndex i = 0; i < dep; ++i) before[index][i] |= before[dep][i];
    }
  }
  return before;
}

TEST(HappensBeforeTest, IsTheClosureOfDependenciesAndSerialLanes) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const StepPlan plan = RandomPlan(seed);
    const auto expected = ClosureOf(plan);
    const HappensBefore before(plan);
    for (NodeIndex second = 0; second < kNumNodes; ++second)
      for (NodeIndex first = 0; first < kNumNodes; ++first)
        ASSERT_EQ(before.Ordered(first, second), expected[second][first])
            << "nodes " << first << " and " << second << " of plan " << seed;
  }
}

}  // namespace
}  // namespace strata::prefetch
