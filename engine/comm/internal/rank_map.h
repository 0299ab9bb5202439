// Which rank is on which node.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aio/base/status.h"

namespace strata::engine {

class RankMap {
 public:
  // `machines` says for each rank which machine it runs on. `ranks_per_pretended_node` cuts every
  // machine into nodes of so many ranks; 0 does not. kFailedPrecondition unless the ranks of a
  // machine follow each other: sums are made in rank order, node by node.
  static Result<RankMap> Create(uint32_t rank, std::span<const uint32_t> machines,
                                uint32_t ranks_per_pretended_node);

  uint32_t rank() const { return rank_; }
  uint32_t world_size() const { return first_.back(); }
  uint32_t num_nodes() const { return static_cast<uint32_t>(first_.size() - 1); }
  uint32_t node() const { return node_; }
  uint32_t local_rank() const { return rank_ - first_of(node_); }
  uint32_t local_size() const { return size_of(node_); }

  uint32_t first_of(uint32_t node) const { return first_[node]; }
  uint32_t size_of(uint32_t node) const { return first_[node + 1] - first_[node]; }
  uint32_t max_local_size() const;  // of all nodes
  uint32_t node_of(uint32_t rank) const;
  bool is_local(uint32_t rank) const {
    return rank >= first_of(node_) && rank < first_of(node_ + 1);
  }
  // Who on `node` receives what a rank of another node gathers, for all of its node.
  uint32_t server_of(uint32_t node, uint32_t remote_rank) const;
  // The ranks of other nodes that a rank receives for. The most that any rank has.
  std::vector<uint32_t> served_by(uint32_t rank) const;
  uint32_t max_served() const;

 private:
  RankMap(uint32_t rank, std::vector<uint32_t> first);

  uint32_t rank_;
  uint32_t node_ = 0;
  std::vector<uint32_t> first_;  // by node; then the world's size
};

}  // namespace strata::engine
