#include "tools/launch/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/or_die.h"

namespace strata::launch {
namespace {

using testing::HasSubstr;
using Numbers = std::vector<uint32_t>;

Numbers AllCpus(const tiering::Topology& topology) {
  Numbers cpus(topology.num_cpus());
  std::iota(cpus.begin(), cpus.end(), 0u);
  return cpus;
}

std::vector<Binding> Bindings(const tiering::Topology& topology, const Numbers& allowed,
                              uint32_t num_slots) {
  std::vector<Binding> bindings;
  for (uint32_t slot = 0; slot < num_slots; ++slot)
    bindings.push_back(OrDie(BindingOf(topology, allowed, slot, num_slots)));
  return bindings;
}

tiering::Topology TwoNodes() {
  return OrDie(tiering::Topology::Synthetic("pack:2 numa:1 core:4 pu:2"));
}

TEST(Binding, RanksGetCoresOfOneNumaNodeAndAllOfThemTogether) {
  const tiering::Topology topology = TwoNodes();
  const std::vector<Binding> bindings = Bindings(topology, AllCpus(topology), 4);
  EXPECT_EQ(bindings[0], (Binding{{0}, {0, 1, 2, 3}, 2, false}));
  EXPECT_EQ(bindings[1], (Binding{{0}, {4, 5, 6, 7}, 2, false}));
  EXPECT_EQ(bindings[2], (Binding{{1}, {8, 9, 10, 11}, 2, false}));
  EXPECT_EQ(bindings[3], (Binding{{1}, {12, 13, 14, 15}, 2, false}));
}

TEST(Binding, FewerRanksThanNumaNodesGetWholeNodes) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:4 core:2 pu:1"));
  const std::vector<Binding> bindings = Bindings(topology, AllCpus(topology), 2);
  EXPECT_EQ(bindings[0], (Binding{{0, 1}, {0, 1, 2, 3}, 4, false}));
  EXPECT_EQ(bindings[1], (Binding{{2, 3}, {4, 5, 6, 7}, 4, false}));
  EXPECT_EQ(Bindings(topology, AllCpus(topology), 1)[0].num_cores, 8u);
}

// For any counts: no core has two ranks while another has none, none is left over, and ranks have
// equally many cores up to the one that does not divide.
TEST(Binding, SharesAreEvenForAnyNumberOfRanks) {
  for (const char* shape : {"numa:1 core:2 pu:1", "pack:2 numa:1 core:4 pu:2", "numa:3 core:5 pu:1",
                            "numa:2 core:7 pu:2"}) {
    const tiering::Topology topology = OrDie(tiering::Topology::Synthetic(shape));
    const uint32_t num_cores = topology.num_cores();
    const auto num_nodes = static_cast<uint32_t>(topology.numa_nodes().size());
    for (uint32_t num_slots = 1; num_slots <= num_cores; ++num_slots) {
      const std::vector<Binding> bindings = Bindings(topology, AllCpus(topology), num_slots);
      if (bindings.back().is_shared) continue;  // one node has more ranks than cores
      std::multiset<uint32_t> cpus;
      size_t fewest = num_cores;
      for (const Binding& binding : bindings) {
        cpus.insert(binding.cpus.begin(), binding.cpus.end());
        fewest = std::min(fewest, binding.num_cores);
        EXPECT_TRUE(num_slots < num_nodes || binding.numa_nodes.size() == 1) << shape;
      }
      const std::set<uint32_t> distinct(cpus.begin(), cpus.end());
      EXPECT_EQ(cpus.size(), distinct.size()) << shape << " " << num_slots;
      EXPECT_EQ(distinct.size(), topology.num_cpus()) << shape << " " << num_slots;
      EXPECT_GE(fewest, 1u);
    }
  }
}

TEST(Binding, MoreRanksThanCoresShareAllCoresOfTheirNodeAndSaySo) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:1 core:2 pu:1"));
  for (const Binding& binding : Bindings(topology, AllCpus(topology), 3)) {
    EXPECT_EQ(binding.cpus, (Numbers{0, 1}));
    EXPECT_THAT(Describe(binding), HasSubstr("shared: more ranks than cores"));
  }
}

TEST(Binding, CoresThatThisProcessMayNotUseAreNobodys) {
  const tiering::Topology topology = TwoNodes();
  // taskset -c 2-5: two cores of node 0.
  const std::vector<Binding> bindings = Bindings(topology, {2, 3, 4, 5}, 2);
  EXPECT_EQ(bindings[0], (Binding{{0}, {2, 3}, 1, false}));
  EXPECT_EQ(bindings[1], (Binding{{0}, {4, 5}, 1, false}));
  EXPECT_FALSE(BindingOf(topology, {}, 0, 1).ok());
}

TEST(Binding, IsSaidInWords) {
  EXPECT_EQ(Describe(Binding{{0}, {0, 1, 2, 3}, 2, false}), "2 cores (cpu 0-3) of NUMA node 0");
  EXPECT_EQ(Describe(Binding{{1}, {5}, 1, false}), "1 core (cpu 5) of NUMA node 1");
}

}  // namespace
}  // namespace strata::launch
