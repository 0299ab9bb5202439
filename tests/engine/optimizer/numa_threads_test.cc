// Where threads stay, on machines that are not there.
#include "engine/optimizer/numa_threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "aio/base/units.h"
#include "engine/optimizer/adam.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kTwoNodes = "pack:2 numa:1 core:4 pu:1";
constexpr const char* kFourNodes = "pack:4 numa:1 core:2 pu:1";

std::vector<uint32_t> Place(const std::string& machine, std::vector<uint64_t> bytes,
                            uint32_t threads) {
  tiering::Topology topology = OrDie(tiering::Topology::Synthetic(machine));
  return PlaceThreads(topology.numa_nodes(), bytes, threads);
}

std::vector<int> CountByNode(const std::vector<uint32_t>& node_of_thread, int num_nodes) {
  std::vector<int> counts(num_nodes);
  for (uint32_t node : node_of_thread) ++counts[node];
  return counts;
}

TEST(PlaceThreadsTest, ThreadsGoWhereTheMemoryIsAndAsManyAsItsPart) {
  EXPECT_THAT(CountByNode(Place(kTwoNodes, {0, 8_GiB}, 4), 2), ElementsAre(0, 4));
  EXPECT_THAT(CountByNode(Place(kTwoNodes, {4_GiB, 4_GiB}, 8), 2), ElementsAre(4, 4));
  EXPECT_THAT(CountByNode(Place(kTwoNodes, {2_GiB, 6_GiB}, 4), 2), ElementsAre(1, 3));
  EXPECT_THAT(CountByNode(Place(kFourNodes, {1_GiB, 1_GiB, 1_GiB, 1_GiB}, 8), 4),
              ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(CountByNode(Place(kFourNodes, {0, 0, 3_GiB, 1_GiB}, 3), 4), ElementsAre(0, 0, 2, 1));
}

TEST(PlaceThreadsTest, ANodeGetsNoMoreThreadsThanCpusWhileOthersHaveSome) {
  EXPECT_THAT(CountByNode(Place(kTwoNodes, {0, 8_GiB}, 6), 2), ElementsAre(2, 4));
  EXPECT_THAT(CountByNode(Place(kFourNodes, {8_GiB, 0, 0, 0}, 8), 4), ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(CountByNode(Place(kTwoNodes, {4_GiB, 4_GiB}, 12), 2), ElementsAre(6, 6));
}

// Memory whose `piece`s of 2 MiB are on the given nodes.
struct FakeMemory {
  explicit FakeMemory(std::vector<uint32_t> nodes) : node_of_piece(std::move(nodes)) {
    memory.resize(node_of_piece.size() * 2_MiB);
  }
  MemoryNodes::NodeOfMemory NodeOf() const {
    return [this](std::span<const std::byte> piece) -> Result<uint32_t> {
      return node_of_piece[static_cast<size_t>(piece.data() - memory.data()) / 2_MiB];
    };
  }
  std::vector<uint32_t> node_of_piece;
  std::vector<std::byte> memory;
};

TEST(MemoryNodesTest, KnowsTheNodeOfEveryAddress) {
  const FakeMemory fake({1, 0, 0, 3});
  const MemoryNodes nodes = OrDie(MemoryNodes::Find(fake.memory, 4, fake.NodeOf()));
  EXPECT_THAT(nodes.bytes_by_node(), ElementsAre(4_MiB, 2_MiB, 0, 2_MiB));
  EXPECT_EQ(nodes.NodeOf(fake.memory.data()), 1u);
  EXPECT_EQ(nodes.NodeOf(fake.memory.data() + 2_MiB - 1), 1u);
  EXPECT_EQ(nodes.NodeOf(fake.memory.data() + 2_MiB), 0u);
  EXPECT_EQ(nodes.NodeOf(fake.memory.data() + 8_MiB - 1), 3u);
  EXPECT_EQ(nodes.NodeOf(fake.memory.data() + 8_MiB), 0u);  // none of ours
}

TEST(PlaceOnNodesTest, OnOneNodeNothingIsBound) {
  tiering::Topology topology = OrDie(tiering::Topology::Synthetic("numa:1 core:4 pu:2"));
  const FakeMemory fake({0, 0});
  const NumaThreads threads = PlaceOnNodes(topology, fake.memory, 4, fake.NodeOf());
  EXPECT_FALSE(threads.are_bound());
  EXPECT_THAT(threads.description, HasSubstr("one NUMA node"));
}

TEST(PlaceOnNodesTest, OnTwoNodesTheLineSaysHowManyThreadsAreWhere) {
  tiering::Topology topology = OrDie(tiering::Topology::Synthetic(kTwoNodes));
  const FakeMemory fake({0, 1, 1, 1});
  const NumaThreads threads = PlaceOnNodes(topology, fake.memory, 4, fake.NodeOf());
  EXPECT_TRUE(threads.are_bound());
  EXPECT_EQ(threads.description,
            "optimizer threads bound to NUMA nodes: 1 to node 0, which has 2 MiB of the host "
            "arena; 3 to node 1, which has 6 MiB of the host arena");
}

TEST(PlaceOnNodesTest, WhereTheKernelDoesNotTellNothingIsBoundAndTheLineSaysWhy) {
  tiering::Topology topology = OrDie(tiering::Topology::Synthetic(kTwoNodes));
  const FakeMemory fake({0, 1});
  const NumaThreads threads = PlaceOnNodes(
      topology, fake.memory, 4, [&](auto memory) { return topology.NodeOfMemory(memory); });
  EXPECT_FALSE(threads.are_bound());
  EXPECT_THAT(threads.description, HasSubstr("not bound: a synthetic topology has no memory"));
}

TEST(PlaceOnNodesTest, ThisMachineKnowsWhereItsMemoryIs) {
  tiering::Topology topology = OrDie(tiering::Topology::Detect());
  const std::vector<std::byte> memory(3_MiB, std::byte{1});
  Result<uint32_t> node = topology.NodeOfMemory(memory);
  if (!node.ok()) GTEST_SKIP() << node.status().message();
  EXPECT_LT(*node, topology.numa_nodes().size());
}

TEST(TileClaimsTest, AThreadTakesItsNodesTilesInOrderAndThenHelpsOthers) {
  TileClaims claims(2, 6, [](uint64_t tile) { return tile % 2; });
  std::vector<uint64_t> taken;
  for (int i = 0; i < 6; ++i) taken.push_back(claims.Claim(1));
  EXPECT_THAT(taken, ElementsAre(1, 3, 5, 0, 2, 4));
}

TEST(TileClaimsTest, ManyThreadsTakeEachTileOnce) {
  constexpr uint64_t kTiles = 20'000;
  TileClaims claims(4, kTiles, [](uint64_t tile) { return tile / 100 % 4; });
  ThreadPool pool = ThreadPool::Create(8).value();
  std::vector<std::atomic<int>> times(kTiles);
  pool.ParallelFor(kTiles, [&](size_t, uint32_t thread) { ++times[claims.Claim(thread % 4)]; });
  EXPECT_TRUE(std::all_of(times.begin(), times.end(), [](const auto& t) { return t == 1; }));
}

// Two and four nodes: every thread is bound to its own before it works, and the bits are those of
// one thread on one node.
TEST(AdamOnNodesTest, ThreadsAreBoundOnceEachAndPlacementDoesNotShowInTheBits) {
  for (const auto& [machine, num_nodes] : {std::pair(kTwoNodes, 2u), std::pair(kFourNodes, 4u)}) {
    tiering::Topology topology = OrDie(tiering::Topology::Synthetic(machine));
    constexpr uint64_t kCount = 1'500'000;
    std::vector<uint32_t> nodes;
    for (uint32_t piece = 0; piece < 10; ++piece) nodes.push_back(piece % num_nodes);
    FakeMemory fake(nodes);  // holds m and v; master and gradient are elsewhere
    std::vector<float> master(kCount, 0.5f), gradient(kCount, 0.25f);
    auto* m = reinterpret_cast<float*>(fake.memory.data());
    auto* v = m + kCount;
    std::fill(v, v + kCount, 0.125f);
    const AdamSlices slices{.master = reinterpret_cast<std::byte*>(master.data()),
                            .m = reinterpret_cast<std::byte*>(m),
                            .v = reinterpret_cast<std::byte*>(v),
                            .gradient = reinterpret_cast<const std::byte*>(gradient.data()),
                            .num_elements = kCount};
    const AdamScalars scalars = MakeAdamScalars({}, 1e-3, 1, 1);

    NumaThreads threads = PlaceOnNodes(topology, fake.memory, 4, fake.NodeOf());
    ASSERT_TRUE(threads.are_bound());
    std::mutex mutex;
    std::map<std::thread::id, std::vector<uint32_t>> bound;
    threads.bind_this_thread = [&](uint32_t node) {
      std::lock_guard lock(mutex);
      bound[std::this_thread::get_id()].push_back(node);
      return topology.BindThisThread(node);
    };
    // In a thread of its own, which is nobody's yet.
    std::thread([&] {
      ThreadPool pool = ThreadPool::Create(4).value();
      AdamStepOnNodes(scalars, slices, pool, threads);
      AdamStepOnNodes(scalars, slices, pool, threads);
    }).join();

    EXPECT_GE(bound.size(), 1u);
    EXPECT_LE(bound.size(), 4u);
    for (const auto& [thread, to] : bound) EXPECT_EQ(to.size(), 1u);

    std::vector<float> expected(kCount, 0.5f), expected_m(kCount), expected_v(kCount, 0.125f);
    AdamSlices alone = slices;
    alone.master = reinterpret_cast<std::byte*>(expected.data());
    alone.m = reinterpret_cast<std::byte*>(expected_m.data());
    alone.v = reinterpret_cast<std::byte*>(expected_v.data());
    AdamStepWith("baseline", scalars, alone);
    AdamStepWith("baseline", scalars, alone);
    EXPECT_EQ(master, expected);
    EXPECT_TRUE(std::equal(expected_m.begin(), expected_m.end(), m));
    EXPECT_TRUE(std::equal(expected_v.begin(), expected_v.end(), v));
  }
}

}  // namespace
}  // namespace strata::engine
