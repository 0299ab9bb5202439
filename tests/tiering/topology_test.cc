#include "tiering/topology.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <thread>

namespace strata::tiering {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TopologyTest, ASyntheticMachineHasTheNodesCoresAndCpusDescribed) {
  auto topology = Topology::Synthetic("pack:2 numa:1 core:4 pu:2");
  ASSERT_TRUE(topology.ok()) << topology.status().ToString();
  EXPECT_TRUE(topology->is_synthetic());
  EXPECT_EQ(topology->num_cores(), 8u);
  EXPECT_EQ(topology->num_cpus(), 16u);
  ASSERT_EQ(topology->numa_nodes().size(), 2u);
  const NumaNode& second = topology->numa_nodes()[1];
  EXPECT_EQ(second.index, 1u);
  EXPECT_THAT(second.cores, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(second.cpus, ElementsAre(8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_EQ(second.cpus_of_cores,
            (std::vector<std::vector<uint32_t>>{{8, 9}, {10, 11}, {12, 13}, {14, 15}}));
  EXPECT_EQ(topology->Describe(),
            "node 0: 4 cores (0-3), 8 cpus (0-7)\n"
            "node 1: 4 cores (4-7), 8 cpus (8-15)\n");
}

TEST(TopologyTest, NodesHaveTheNumbersOfTheKernelBesideTheirPlaces) {
  auto topology = Topology::Synthetic("numa:2(indexes=1,0) core:1 pu:1");
  ASSERT_TRUE(topology.ok()) << topology.status().ToString();
  EXPECT_EQ(topology->numa_nodes()[0].index, 0u);
  EXPECT_EQ(topology->numa_nodes()[0].os_index, 1u);
  EXPECT_EQ(topology->numa_nodes()[1].os_index, 0u);
}

TEST(TopologyTest, BindingOnASyntheticMachineIsDecidedAndNotDone) {
  auto topology = Topology::Synthetic("numa:2 core:2 pu:1");
  ASSERT_TRUE(topology.ok());
  EXPECT_TRUE(topology->BindThisThread(1).ok());
  Status beyond = topology->BindThisThread(2);
  EXPECT_EQ(beyond.code(), Code::kInvalidArgument);
  EXPECT_THAT(beyond.message(), HasSubstr("NUMA node 2 is not there: this machine has 2 nodes"));
}

TEST(TopologyTest, AProcessIsBoundToTheCpusGivenAndSoAreItsThreads) {
  auto topology = Topology::Detect();
  ASSERT_TRUE(topology.ok());
  if (topology->is_synthetic()) GTEST_SKIP() << "HWLOC_SYNTHETIC or HWLOC_XMLFILE is set";
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const uint32_t cpu = topology->numa_nodes()[0].cpus.back();
  Status bound = topology->BindThisProcess({cpu}, {0});
  ASSERT_TRUE(bound.ok()) << bound.ToString();
  cpu_set_t of_thread;
  std::thread([&] { sched_getaffinity(0, sizeof of_thread, &of_thread); }).join();
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(CPU_COUNT(&of_thread), 1);
  EXPECT_TRUE(CPU_ISSET(cpu, &of_thread));
  EXPECT_FALSE(topology->BindThisProcess({cpu}, {99}).ok());
}

// As the kernel has it for this thread: 0 for its default.
int MemoryPolicy(unsigned long* nodes) {
  int policy = -1;
  constexpr unsigned long kMostNodes = 64;  // more than one word: the kernel may want more
  std::array<unsigned long, 16> mask = {};
  if (syscall(SYS_get_mempolicy, &policy, mask.data(), kMostNodes * mask.size(), nullptr, 0) != 0)
    return -1;
  *nodes = mask[0];
  return policy;
}

TEST(TopologyTest, AThreadTakesMemoryOfANodeAsLongAsItsWorkLasts) {
  auto topology = Topology::Detect();
  ASSERT_TRUE(topology.ok());
  unsigned long nodes = 0;
  if (topology->is_synthetic() || MemoryPolicy(&nodes) != 0)
    GTEST_SKIP() << "this machine's memory is bound already, or its kernel does not tell";
  const uint32_t node = topology->numa_nodes().back().os_index;
  int inside = -1;
  const Status preferred = topology->WithMemoryOf(node, [&] { inside = MemoryPolicy(&nodes); });
  if (preferred.code() == Code::kPermissionDenied) GTEST_SKIP() << preferred.message();
  ASSERT_TRUE(preferred.ok()) << preferred.ToString();
  EXPECT_TRUE(inside == 1 || inside == 5) << inside;  // MPOL_PREFERRED, MPOL_PREFERRED_MANY
  EXPECT_EQ(nodes, 1UL << node);
  EXPECT_EQ(MemoryPolicy(&nodes), 0);
}

TEST(TopologyTest, MemoryOfANodeThatIsNotThereIsAnErrorAndNothingIsDone) {
  auto topology = Topology::Synthetic("numa:2 core:2 pu:1");
  ASSERT_TRUE(topology.ok());
  int times = 0;
  EXPECT_EQ(topology->WithMemoryOf(2, [&] { ++times; }).code(), Code::kInvalidArgument);
  EXPECT_EQ(times, 0);
  EXPECT_TRUE(topology->WithMemoryOf(1, [&] { ++times; }).ok());
  EXPECT_EQ(times, 1);
}

TEST(TopologyTest, ADescriptionThatHwlocDoesNotKnowIsAnErrorThatShowsOneThatItDoes) {
  auto topology = Topology::Synthetic("two sockets, please");
  ASSERT_FALSE(topology.ok());
  EXPECT_EQ(topology.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(topology.status().message(), HasSubstr("two sockets, please"));
  EXPECT_THAT(topology.status().message(), HasSubstr("pack:2 numa:1"));
}

TEST(TopologyTest, ThisMachineHasANodeAndEveryCpuIsOnOne) {
  auto topology = Topology::Detect();
  ASSERT_TRUE(topology.ok()) << topology.status().ToString();
  size_t cpus = 0;
  for (const NumaNode& node : topology->numa_nodes()) cpus += node.cpus.size();
  EXPECT_GE(topology->num_cores(), 1u);
  EXPECT_EQ(cpus, topology->num_cpus());
  EXPECT_EQ(topology->Describe().find("drives of /: ") == std::string::npos,
            topology->is_synthetic());
}

TEST(TopologyTest, ABoundThreadMayRunOnTheCpusOfItsNodeOnly) {
  auto topology = Topology::Detect();
  ASSERT_TRUE(topology.ok());
  if (topology->is_synthetic()) GTEST_SKIP() << "hwloc describes another machine";
  const NumaNode& node = topology->numa_nodes().front();
  std::thread([&] {
    ASSERT_TRUE(topology->BindThisThread(node.index).ok());
    cpu_set_t allowed;
    ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    EXPECT_EQ(static_cast<size_t>(CPU_COUNT(&allowed)), node.cpus.size());
    for (uint32_t cpu : node.cpus) EXPECT_TRUE(CPU_ISSET(cpu, &allowed)) << cpu;
  }).join();
}

}  // namespace
}  // namespace strata::tiering
