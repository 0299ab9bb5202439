#include "engine/optimizer/numa_threads.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPieceBytes = 2_MiB;  // a huge page: never on two nodes

NumaThreads NotBound(std::string why) {
  NumaThreads threads;
  threads.description = std::move(why);
  return threads;
}

std::string Describe(std::span<const uint32_t> node_of_thread, const MemoryNodes& memory) {
  std::string text;
  for (uint32_t node = 0; node < memory.bytes_by_node().size(); ++node) {
    const auto count = std::count(node_of_thread.begin(), node_of_thread.end(), node);
    if (count == 0 && memory.bytes_by_node()[node] == 0) continue;
    text += fmt::format("{}{} to node {}, which has {} of the host arena", text.empty() ? "" : "; ",
                        count, node, FormatBytes(memory.bytes_by_node()[node]));
  }
  return fmt::format("optimizer threads bound to NUMA nodes: {}", text);
}

// Of the nodes that may take one more, the one that has the most bytes for each thread it then has.
uint32_t NeediestNode(std::span<const tiering::NumaNode> nodes,
                      std::span<const uint64_t> bytes_by_node,
                      std::span<const uint32_t> threads_on_node, bool within_cpus) {
  uint32_t best = UINT32_MAX;
  double most = -1;
  for (uint32_t node = 0; node < nodes.size(); ++node) {
    if (nodes[node].cpus.empty()) continue;  // memory alone
    if (within_cpus && threads_on_node[node] >= nodes[node].cpus.size()) continue;
    const double share =
        static_cast<double>(bytes_by_node[node]) / static_cast<double>(threads_on_node[node] + 1);
    if (share > most) best = node;
    most = std::max(most, share);
  }
  return best;
}

}  // namespace

Result<MemoryNodes> MemoryNodes::Find(std::span<const std::byte> memory, uint32_t num_nodes,
                                      const NodeOfMemory& node_of_memory) {
  MemoryNodes found;
  found.memory_ = memory;
  found.bytes_by_node_.resize(num_nodes);
  for (uint64_t begin = 0; begin < memory.size(); begin += kPieceBytes) {
    const uint64_t size = std::min<uint64_t>(kPieceBytes, memory.size() - begin);
    STRATA_ASSIGN_OR_RETURN(uint32_t node, node_of_memory(memory.subspan(begin, size)));
    STRATA_CHECK(node < num_nodes);
    found.node_of_piece_.push_back(node);
    found.bytes_by_node_[node] += size;
  }
  return found;
}

uint32_t MemoryNodes::NodeOf(const std::byte* address) const {
  // As numbers: std::less would do, and the difference of pointers into nothing in common not.
  const auto offset =
      reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(memory_.data());
  return offset < memory_.size() ? node_of_piece_[offset / kPieceBytes] : 0;
}

std::vector<uint32_t> PlaceThreads(std::span<const tiering::NumaNode> nodes,
                                   std::span<const uint64_t> bytes_by_node, uint32_t num_threads) {
  STRATA_CHECK(nodes.size() == bytes_by_node.size());
  std::vector<uint32_t> threads_on_node(nodes.size());
  std::vector<uint32_t> node_of_thread;
  for (uint32_t thread = 0; thread < num_threads; ++thread) {
    uint32_t node = NeediestNode(nodes, bytes_by_node, threads_on_node, /*within_cpus=*/true);
    if (node == UINT32_MAX) node = NeediestNode(nodes, bytes_by_node, threads_on_node, false);
    if (node == UINT32_MAX) return {};  // no node has cpus
    ++threads_on_node[node];
    node_of_thread.push_back(node);
  }
  return node_of_thread;
}

NumaThreads PlaceOnNodes(const tiering::Topology& topology, std::span<const std::byte> arena,
                         uint32_t num_threads, const MemoryNodes::NodeOfMemory& node_of_memory) {
  const std::vector<tiering::NumaNode>& nodes = topology.numa_nodes();
  if (nodes.size() <= 1) return NotBound("optimizer threads not bound: there is one NUMA node");
  if (nodes.size() > TileClaims::kMaxNodes) {
    return NotBound(fmt::format("optimizer threads not bound: {} NUMA nodes are more than {}",
                                nodes.size(), TileClaims::kMaxNodes));
  }
  Result<MemoryNodes> memory =
      MemoryNodes::Find(arena, static_cast<uint32_t>(nodes.size()), node_of_memory);
  if (!memory.ok()) {
    return NotBound("optimizer threads not bound: " + std::string(memory.status().message()));
  }
  NumaThreads threads;
  threads.node_of_thread = PlaceThreads(nodes, memory->bytes_by_node(), num_threads);
  threads.memory = std::move(memory).value();
  threads.bind_this_thread = [&topology](uint32_t node) { return topology.BindThisThread(node); };
  threads.description = Describe(threads.node_of_thread, threads.memory);
  return threads;
}

uint64_t TileClaims::ClaimOf(uint32_t node) {
  while (true) {
    const uint64_t tile = next_[node].fetch_add(1, std::memory_order_relaxed);
    if (tile >= num_tiles_) return num_tiles_;
    if (node_of_tile_(tile) == node) return tile;
  }
}

uint64_t TileClaims::Claim(uint32_t node) {
  for (uint32_t i = 0; i < num_nodes_; ++i) {
    const uint64_t tile = ClaimOf((node + i) % num_nodes_);
    if (tile < num_tiles_) return tile;
  }
  STRATA_CHECK(false);  // called more often than there are tiles
}

}  // namespace strata::engine
