// Which ranks are where: the nodes of a job in order, and the slots used on each. Ranks count
// through the first node's slots, then the second's, and so on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"

namespace strata::launch {

// A slot is room for one rank: a GPU, or a share of the cores. Slots are numbered from 0.
struct NodeSlots {
  std::string host;
  uint32_t num_slots = 0;       // that the node has
  std::vector<uint32_t> slots;  // that ranks use, in rank order

  bool operator==(const NodeSlots&) const = default;
};

using Layout = std::vector<NodeSlots>;

// `num_nodes` nodes named node-0, node-1... with `num_slots` ranks each.
Layout EvenLayout(uint32_t num_nodes, uint32_t num_slots);

uint32_t WorldSize(const Layout& layout);

// Where a rank is. rank < WorldSize(layout).
struct RankPlace {
  uint32_t node_rank = 0;
  uint32_t local_rank = 0;
  uint32_t local_world_size = 0;
  uint32_t slot = 0;
  uint32_t num_slots = 0;
};
RankPlace PlaceOf(const Layout& layout, uint32_t rank);

// "worker-0:8:0-7@worker-1:8:0,2": host, slots it has, slots used. Both directions, for command
// lines.
std::string FormatLayout(const Layout& layout);
Result<Layout> ParseLayout(std::string_view text);

// "0-3,8"; keeps the order: "2,0" stays.
std::string FormatNumbers(const std::vector<uint32_t>& numbers);
Result<std::vector<uint32_t>> ParseNumbers(std::string_view text);

// A decimal number and nothing else.
Result<uint32_t> ParseNumber(std::string_view text);

}  // namespace strata::launch
