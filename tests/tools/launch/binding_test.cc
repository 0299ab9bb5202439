#include "tools/launch/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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

// Of slots that wish for nothing.
std::vector<Binding> Bindings(const tiering::Topology& topology, const Numbers& allowed,
                              uint32_t num_slots) {
  return OrDie(BindSlots(topology, allowed, {.slots = std::vector<Wish>(num_slots)}));
}

// Slot N is to be near GPU N, which hangs on that node; -1: nobody knows where.
Wishes NearGpus(const std::vector<int>& nodes) {
  Wishes wishes;
  for (const int node : nodes) {
    Wish& wish = wishes.slots.emplace_back();
    wish.what = "GPU " + std::to_string(wishes.slots.size() - 1);
    wish.why_not_told = "sysfs does not tell its NUMA node";
    if (node >= 0) wish.numa_node = static_cast<uint32_t>(node);
  }
  return wishes;
}
std::vector<Binding> Bindings(const tiering::Topology& topology, const Wishes& wishes) {
  return OrDie(BindSlots(topology, AllCpus(topology), wishes));
}

// The node of each slot.
Numbers NodesOf(const std::vector<Binding>& bindings) {
  Numbers nodes;
  for (const Binding& binding : bindings) {
    EXPECT_EQ(binding.numa_nodes.size(), 1u);
    nodes.push_back(binding.numa_nodes[0]);
  }
  return nodes;
}
std::vector<size_t> CoresOf(const std::vector<Binding>& bindings) {
  std::vector<size_t> cores;
  for (const Binding& binding : bindings) cores.push_back(binding.num_cores);
  return cores;
}
// No hardware thread has two ranks.
void ExpectDisjoint(const std::vector<Binding>& bindings) {
  std::set<uint32_t> seen;
  for (const Binding& binding : bindings)
    for (const uint32_t cpu : binding.cpus) EXPECT_TRUE(seen.insert(cpu).second) << cpu;
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
  EXPECT_FALSE(BindSlots(topology, {}, {.slots = {{}}}).ok());
}

TEST(Binding, UnequalNodesAreSharedOutByTheirCores) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:2 core:8 pu:1"));
  // taskset -c 0-1,8-15: two cores of node 0, eight of node 1.
  const Numbers allowed = {0, 1, 8, 9, 10, 11, 12, 13, 14, 15};
  const std::vector<Binding> bindings = Bindings(topology, allowed, 5);
  EXPECT_EQ(NodesOf(bindings), (Numbers{0, 1, 1, 1, 1}));
  EXPECT_EQ(CoresOf(bindings), (std::vector<size_t>{2, 2, 2, 2, 2}));
  ExpectDisjoint(bindings);
}

TEST(NearGpus, EightOnTwoNodesHaveTheCoresOfTheirOwn) {
  const tiering::Topology topology =
      OrDie(tiering::Topology::Synthetic("pack:2 numa:1 core:16 pu:2"));
  // Not in the order of the nodes, as on some boards.
  const std::vector<Binding> bindings = Bindings(topology, NearGpus({1, 1, 0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(NodesOf(bindings), (Numbers{1, 1, 0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(CoresOf(bindings), std::vector<size_t>(8, 4));
  EXPECT_EQ(bindings[2].cpus, (Numbers{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(bindings[7].cpus, (Numbers{24, 25, 26, 27, 28, 29, 30, 31}));
  ExpectDisjoint(bindings);
  for (size_t slot = 0; slot < 8; ++slot)
    EXPECT_EQ(bindings[slot].note, "near GPU " + std::to_string(slot));
}

TEST(NearGpus, FourOnOneNodeShareItAndLeaveTheOther) {
  const tiering::Topology topology = TwoNodes();
  const std::vector<Binding> bindings = Bindings(topology, NearGpus({1, 1, 1, 1}));
  EXPECT_EQ(NodesOf(bindings), Numbers(4, 1));
  EXPECT_EQ(CoresOf(bindings), std::vector<size_t>(4, 1));
  ExpectDisjoint(bindings);
}

TEST(NearGpus, OneHasItsWholeNodeAndNotTheOther) {
  const std::vector<Binding> bindings = Bindings(TwoNodes(), NearGpus({1}));
  EXPECT_EQ(bindings[0], (Binding{{1}, {8, 9, 10, 11, 12, 13, 14, 15}, 4, false, "near GPU 0"}));
}

TEST(NearGpus, OddNumbersHaveEquallyManyCoresUpToTheOneThatDoesNotDivide) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:2 core:8 pu:1"));
  const std::vector<Binding> bindings = Bindings(topology, NearGpus({0, 1, 0, 0, 1}));
  EXPECT_EQ(NodesOf(bindings), (Numbers{0, 1, 0, 0, 1}));
  EXPECT_EQ(CoresOf(bindings), (std::vector<size_t>{2, 4, 3, 3, 4}));
  ExpectDisjoint(bindings);
}

TEST(NearGpus, NodesAreTheKernelsNotHwlocs) {
  const tiering::Topology topology =
      OrDie(tiering::Topology::Synthetic("pack:2 numa:1(indexes=1,0) core:2 pu:1"));
  ASSERT_EQ(topology.numa_nodes()[0].os_index, 1u);
  EXPECT_EQ(Bindings(topology, NearGpus({0}))[0].cpus, (Numbers{2, 3}));
}

TEST(NearGpus, WhereTheirNodesAreUnknownCoresAreSharedOutAndThatIsSaid) {
  const tiering::Topology topology = TwoNodes();
  std::vector<Binding> bindings = Bindings(topology, NearGpus({-1, -1, -1, -1}));
  EXPECT_EQ(NodesOf(bindings), (Numbers{0, 0, 1, 1}));
  EXPECT_EQ(bindings[3].note, "GPU 3: sysfs does not tell its NUMA node");
  bindings = Bindings(topology, NearGpus({-1}));
  EXPECT_EQ(bindings[0].numa_nodes, (Numbers{0, 1}));
  EXPECT_EQ(bindings[0].note, "GPU 0: sysfs does not tell its NUMA node");
  // There is but one to be near.
  const tiering::Topology one = OrDie(tiering::Topology::Synthetic("numa:1 core:4 pu:1"));
  EXPECT_EQ(Bindings(one, NearGpus({-1, -1}))[1].note, "near GPU 1");
}

TEST(NearGpus, RanksWithoutAWishTakeWhatTheOthersLeave) {
  const tiering::Topology topology = TwoNodes();
  const std::vector<Binding> bindings = Bindings(topology, NearGpus({-1, 0, -1, 0}));
  EXPECT_EQ(NodesOf(bindings), (Numbers{1, 0, 1, 0}));
  EXPECT_EQ(CoresOf(bindings), std::vector<size_t>(4, 2));
  ExpectDisjoint(bindings);
}

TEST(NearGpus, MoreRanksThanCoresThereGoElsewhereInOrderAndSaySo) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:2 core:4 pu:1"));
  // taskset leaves node 0 two cores.
  const Numbers allowed = {0, 1, 4, 5, 6, 7};
  const std::vector<Binding> bindings = OrDie(BindSlots(topology, allowed, NearGpus({0, 0, 0, 0})));
  EXPECT_EQ(NodesOf(bindings), (Numbers{0, 0, 1, 1}));
  EXPECT_EQ(CoresOf(bindings), (std::vector<size_t>{1, 1, 2, 2}));
  ExpectDisjoint(bindings);
  EXPECT_EQ(bindings[1].note, "near GPU 1");
  EXPECT_EQ(bindings[2].note, "not near GPU 2: more ranks than cores want NUMA node 0");
}

TEST(NearGpus, MoreRanksThanCoresAnywhereShareThoseOfTheirNode) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:2 core:2 pu:1"));
  const std::vector<Binding> bindings = Bindings(topology, NearGpus({1, 1, 1, 1, 1}));
  EXPECT_EQ(NodesOf(bindings), (Numbers{1, 1, 0, 0, 1}));
  EXPECT_EQ(bindings[4].cpus, (Numbers{2, 3}));
  EXPECT_TRUE(bindings[0].is_shared && bindings[4].is_shared && !bindings[2].is_shared);
  EXPECT_EQ(Describe(bindings[4]),
            "2 cores (cpu 2-3) of NUMA node 1, shared: more ranks than cores, near GPU 4");
}

TEST(NearGpus, ANodeWithoutCoresForThisProcessIsNamed) {
  const tiering::Topology topology = TwoNodes();
  const std::vector<Binding> bindings = OrDie(BindSlots(topology, {0, 1, 2, 3}, NearGpus({1, 7})));
  EXPECT_EQ(NodesOf(bindings), (Numbers{0, 0}));
  EXPECT_EQ(CoresOf(bindings), (std::vector<size_t>{1, 1}));
  EXPECT_EQ(bindings[0].note, "not near GPU 0: no core of NUMA node 1 is for this process");
  EXPECT_EQ(bindings[1].note, "not near GPU 1: no core of NUMA node 7 is for this process");
}

// Whatever is wished: nobody is without a core or shares one while another is nobody's, and who has
// a wish is there unless that node is full.
TEST(NearGpus, NobodyStarvesForAWish) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:3 core:3 pu:1"));
  for (int code = 0; code < 4 * 4 * 4 * 4 * 4; ++code) {
    std::vector<int> nodes;
    for (int rest = code, i = 0; i < 5; ++i, rest /= 4) nodes.push_back(rest % 4 - 1);
    const std::vector<Binding> bindings = Bindings(topology, NearGpus(nodes));
    ExpectDisjoint(bindings);
    for (size_t slot = 0; slot < nodes.size(); ++slot) {
      EXPECT_GE(bindings[slot].num_cores, 1u);
      const int wanted = nodes[slot];
      if (wanted < 0 || bindings[slot].numa_nodes[0] == static_cast<uint32_t>(wanted)) continue;
      const auto before = std::count(nodes.begin(), nodes.begin() + static_cast<int>(slot), wanted);
      EXPECT_GE(before, 3) << code << ": slot " << slot;
    }
  }
}

TEST(NearDrives, TheNodeAloneIsEnoughForWhoComputesWithAsManyThreads) {
  const tiering::Topology topology = TwoNodes();
  Wishes wishes{.slots = {{}}, .drives = {{"nvme0n1", 1}, {"nvme1n1", 1}}, .threads = 4};
  EXPECT_EQ(
      Bindings(topology, wishes)[0],
      (Binding{{1}, {8, 9, 10, 11, 12, 13, 14, 15}, 4, false, "near drives nvme0n1 and nvme1n1"}));
}

TEST(NearDrives, ARankThatComputesWithMoreKeepsItsCores) {
  const tiering::Topology topology = TwoNodes();
  for (const uint64_t threads : {0u, 5u}) {
    const Binding binding =
        Bindings(topology, {.slots = {{}}, .drives = {{"nvme0n1", 1}}, .threads = threads})[0];
    EXPECT_EQ(binding.num_cores, 8u);
    EXPECT_EQ(binding.note, "drive nvme0n1 near node 1");
  }
}

TEST(NearDrives, OfARanksOwnNodesTheNearOneIsTaken) {
  const tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:4 core:2 pu:1"));
  const std::vector<Binding> bindings =
      Bindings(topology, {.slots = {{}, {}}, .drives = {{"nvme0n1", 3}}, .threads = 2});
  EXPECT_EQ(bindings[0], (Binding{{0, 1}, {0, 1, 2, 3}, 4, false}));
  EXPECT_EQ(bindings[1], (Binding{{3}, {6, 7}, 2, false, "near drive nvme0n1"}));
}

TEST(NearDrives, GpusCountMoreAndAsManyRanksAsNodesAreSharedOutEvenly) {
  const tiering::Topology topology = TwoNodes();
  Wishes wishes = NearGpus({0});
  wishes.drives = {{"nvme0n1", 1}};
  wishes.threads = 1;
  EXPECT_EQ(NodesOf(Bindings(topology, wishes)), (Numbers{0}));
  wishes.slots = {{}, {}, {}};
  EXPECT_EQ(NodesOf(Bindings(topology, wishes)), (Numbers{0, 0, 1}));
}

TEST(Binding, IsSaidInWords) {
  EXPECT_EQ(Describe(Binding{{0}, {0, 1, 2, 3}, 2, false}), "2 cores (cpu 0-3) of NUMA node 0");
  EXPECT_EQ(Describe(Binding{{1}, {5}, 1, false, "near GPU 0000:17:00.0"}),
            "1 core (cpu 5) of NUMA node 1, near GPU 0000:17:00.0");
}

}  // namespace
}  // namespace strata::launch
