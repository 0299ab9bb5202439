// Broadcast: from rank to node to node, in a chain; ranks of a node read from the one that has it.
#pragma once

#include "engine/comm/internal/reduce.h"
#include "engine/comm/internal/rows.h"
#include "engine/comm/internal/turn.h"

namespace strata::engine {

class Spread {
 public:
  Spread(World* world, ChannelState* state, std::span<std::byte> bytes, uint32_t root);

  Status Run(Announcement announcement);

 private:
  Status Receive(uint64_t row);
  Status Forward(uint64_t row);
  Status Produce(uint64_t row);
  Status Read(uint64_t row);
  // Who has it first on the node so many steps behind the root's.
  uint32_t SourceOf(uint32_t steps) const;
  std::span<std::byte> Row(uint64_t row) const {
    const Segments::Range part = segments_.part(0, row);
    return bytes_.subspan(part.begin, part.length);
  }

  const RankMap& ranks_;
  Turn turn_;
  std::span<std::byte> bytes_;
  uint32_t root_;
  uint32_t steps_;   // from the root's node to ours
  uint32_t source_;  // of our node
  Segments segments_;
  std::vector<Messages::Ticket> incoming_;  // by row
};

}  // namespace strata::engine
