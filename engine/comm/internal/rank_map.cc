#include "engine/comm/internal/rank_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace strata::engine {

RankMap::RankMap(uint32_t rank, std::vector<uint32_t> first)
    : rank_(rank), first_(std::move(first)) {
  node_ = node_of(rank);
}

Result<RankMap> RankMap::Create(uint32_t rank, std::span<const uint32_t> machines,
                                uint32_t ranks_per_pretended_node) {
  STRATA_CHECK(rank < machines.size());
  std::vector<uint32_t> first;
  std::vector<uint32_t> seen;
  for (uint32_t at = 0; at < machines.size(); ++at) {
    if (at > 0 && machines[at] == machines[at - 1]) {
      const bool is_full =
          ranks_per_pretended_node > 0 && at - first.back() == ranks_per_pretended_node;
      if (is_full) first.push_back(at);
      continue;
    }
    if (std::find(seen.begin(), seen.end(), machines[at]) != seen.end()) {
      return FailedPrecondition(fmt::format(
          "rank {} runs on another machine than rank {}, but on the one of an earlier rank: ranks "
          "of a machine must follow each other (mpirun --map-by slot, srun -m block)",
          at, at - 1));
    }
    seen.push_back(machines[at]);
    first.push_back(at);
  }
  first.push_back(static_cast<uint32_t>(machines.size()));
  return RankMap(rank, std::move(first));
}

uint32_t RankMap::node_of(uint32_t rank) const {
  return static_cast<uint32_t>(std::upper_bound(first_.begin(), first_.end(), rank) -
                               first_.begin() - 1);
}

uint32_t RankMap::max_local_size() const {
  uint32_t most = 0;
  for (uint32_t node = 0; node < num_nodes(); ++node) most = std::max(most, size_of(node));
  return most;
}

uint32_t RankMap::server_of(uint32_t node, uint32_t remote_rank) const {
  return first_of(node) + (remote_rank - first_of(node_of(remote_rank))) % size_of(node);
}

std::vector<uint32_t> RankMap::served_by(uint32_t rank) const {
  std::vector<uint32_t> served;
  const uint32_t home = node_of(rank);
  for (uint32_t other = 0; other < world_size(); ++other)
    if (node_of(other) != home && server_of(home, other) == rank) served.push_back(other);
  return served;
}

uint32_t RankMap::max_served() const {
  size_t most = 0;
  for (uint32_t rank = 0; rank < world_size(); ++rank)
    most = std::max(most, served_by(rank).size());
  return static_cast<uint32_t>(most);
}

}  // namespace strata::engine
