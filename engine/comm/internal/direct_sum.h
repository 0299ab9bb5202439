// Reduce-scatter where nodes have few ranks: each rank sends every owner on another node what it
// adds to the owner's segment, and owners sum in rank order.
//
// The sum is OrderedSum's, bit for bit. What crosses the network is the payload in its own type,
// (N - 1) / N of it from every rank, and at once; OrderedSum sends an fp32 partial sum per node,
// which is less where a node has more ranks than two of 16 bits or one of fp32.
#pragma once

#include <vector>

#include "engine/comm/internal/reduce.h"
#include "engine/comm/internal/rows.h"
#include "engine/comm/internal/turn.h"

namespace strata::engine {

// Whether it sends fewer bytes between nodes than partial sums would be.
bool SumsDirectly(const RankMap& ranks, DType dtype);

class DirectSum {
 public:
  // `buffer` is kept from one turn to the next. `shard` is this rank's segment of the sum; it may
  // be its place in `whole`.
  DirectSum(World* world, ChannelState* state, std::vector<std::byte>* buffer,
            std::span<const std::byte> whole, std::span<std::byte> shard, uint64_t stride_elements,
            DType dtype);

  Status Run(Announcement announcement);

 private:
  static constexpr uint64_t kRowsAhead = 2;  // asked for before they are needed

  Status Produce(uint64_t row);
  Status SendToOwners(uint64_t row);
  Status AskForRows(uint64_t end);
  Status Sum(uint64_t row);
  Result<const std::byte*> Source(uint32_t rank, uint64_t row, Segments::Range part);
  // Where a rank of another node's part of a row arrives.
  std::span<std::byte> Arriving(uint32_t rank, uint64_t row);
  uint64_t BytesOf(uint64_t elements) const { return elements * SizeOf(dtype_); }

  const RankMap& ranks_;
  Turn turn_;
  std::vector<std::byte>& buffer_;
  std::span<const std::byte> whole_;
  std::span<std::byte> shard_;
  DType dtype_;
  Segments segments_;
  Writes writes_;
  uint64_t num_asked_rows_ = 0;
  std::vector<std::vector<Messages::Ticket>> tickets_;  // by row, then by rank
  std::vector<const std::byte*> sources_;               // by rank
};

}  // namespace strata::engine
