// Which NUMA node the optimizer's threads stay on: that of the memory they work on.
//
// An Adam step is a walk through memory, and memory of another node is slower by a third or more.
// So each thread is bound to a node that holds a part of the arena, as many to each as its part
// asks for, and takes the tiles in its own node's memory first. What a tile is depends on none of
// this, so neither do the bits. With one node nothing is bound.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "tiering/topology.h"

namespace strata::engine {

// The nodes that an arena's pages are on.
class MemoryNodes {
 public:
  // As topology sees `memory`, all of it populated. `node_of_memory` is Topology::NodeOfMemory.
  using NodeOfMemory = std::function<Result<uint32_t>(std::span<const std::byte> memory)>;
  static Result<MemoryNodes> Find(std::span<const std::byte> memory, uint32_t num_nodes,
                                  const NodeOfMemory& node_of_memory);

  // Of memory outside the arena: node 0.
  uint32_t NodeOf(const std::byte* address) const;
  const std::vector<uint64_t>& bytes_by_node() const { return bytes_by_node_; }

 private:
  std::span<const std::byte> memory_;
  std::vector<uint32_t> node_of_piece_;  // of kPieceBytes each
  std::vector<uint64_t> bytes_by_node_;
};

// The node of each of num_threads threads: in proportion to the bytes on each node, but no more on
// one than it has cpus while others have some left.
std::vector<uint32_t> PlaceThreads(std::span<const tiering::NumaNode> nodes,
                                   std::span<const uint64_t> bytes_by_node, uint32_t num_threads);

struct NumaThreads {
  std::vector<uint32_t> node_of_thread;  // empty: threads are not bound
  MemoryNodes memory;
  std::function<Status(uint32_t node)> bind_this_thread;
  std::string description;  // one line, for people

  bool are_bound() const { return !node_of_thread.empty(); }
};

// For a pool of num_threads that works on `arena`. Does not fail: where threads cannot be placed,
// they are not, and the description says why. `topology` outlives the result.
NumaThreads PlaceOnNodes(const tiering::Topology& topology, std::span<const std::byte> arena,
                         uint32_t num_threads, const MemoryNodes::NodeOfMemory& node_of_memory);

// Hands out tiles to threads on nodes, each once: those of the thread's own node first, in order,
// then others'. Thread-safe.
class TileClaims {
 public:
  static constexpr uint32_t kMaxNodes = 64;

  TileClaims(uint32_t num_nodes, uint64_t num_tiles, std::function<uint32_t(uint64_t)> node_of_tile)
      : num_nodes_(num_nodes), num_tiles_(num_tiles), node_of_tile_(std::move(node_of_tile)) {}

  // To be called num_tiles times.
  uint64_t Claim(uint32_t node);

 private:
  // num_tiles if the node has none left.
  uint64_t ClaimOf(uint32_t node);

  const uint32_t num_nodes_;
  const uint64_t num_tiles_;
  const std::function<uint32_t(uint64_t)> node_of_tile_;
  std::array<std::atomic<uint64_t>, kMaxNodes> next_{};  // by node: tiles before it are looked at
};

}  // namespace strata::engine
