// All-gather: every rank's segment to all. A rank sends its segment once to each other node, where
// one rank receives it for all; ranks of a node read what they need from whoever has it.
#pragma once

#include "engine/comm/internal/reduce.h"
#include "engine/comm/internal/rows.h"
#include "engine/comm/internal/turn.h"

namespace strata::engine {

class Gather {
 public:
  // `own` is this rank's segment, which may be its place in `whole`.
  Gather(World* world, ChannelState* state, std::span<const std::byte> own,
         std::span<std::byte> whole, uint64_t stride_bytes);

  Status Run(Announcement announcement);

 private:
  // Where nobody reads of this rank, nothing is staged.
  bool stages_source() const { return ranks_.local_size() > 1 && turn_.source_is_staged(); }
  bool stages_relay() const {
    return ranks_.local_size() > 1 && turn_.relay_is_staged() &&
           !served_[ranks_.local_rank()].empty();
  }
  std::span<const std::byte> OwnPart(uint64_t row) const;
  Status Produce(uint64_t row);
  Status SendToNodes(uint64_t row);
  Status ReceiveFromNodes(uint64_t row);
  Status ReadNode(uint64_t row);
  Status Relay(uint64_t row);
  Status ReadRelayed(uint64_t row);
  void Put(uint32_t rank, uint64_t row, const std::byte* from);

  const RankMap& ranks_;
  Turn turn_;
  std::span<const std::byte> own_;
  std::span<std::byte> whole_;
  Segments segments_;
  Writes writes_;
  uint64_t num_received_rows_ = 0;                      // whose messages are asked for
  std::byte* slot_ = nullptr;                           // of this row, where one is used
  std::vector<std::vector<uint32_t>> served_;           // by local rank
  std::vector<std::vector<Messages::Ticket>> tickets_;  // by row, of those that this rank serves
};

}  // namespace strata::engine
