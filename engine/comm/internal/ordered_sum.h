// Reduce-scatter: sums in rank order, so that it is the same sum however ranks are spread over
// nodes.
//
// Of each piece, one rank of every node is the worker: it adds what its node's ranks have, in
// order, to the partial sum that the node before sent, and sends it on. So pieces travel through
// the nodes once, in a pipeline, and the last node sends each to its owner. Pieces of ranks of the
// last node are worked on by their owners. On one node every rank is the worker for its own
// segment, and nothing is sent at all.
#pragma once

#include <deque>

#include "engine/comm/internal/reduce.h"
#include "engine/comm/internal/rows.h"
#include "engine/comm/internal/turn.h"

namespace strata::engine {

// Buffers for partial sums between nodes, kept from one turn to the next.
class SumBuffers {
 public:
  static constexpr uint64_t kNumEachWay = 4;
  explicit SumBuffers(uint64_t piece_elements, bool is_needed)
      : piece_elements_(piece_elements),
        memory_(is_needed ? 2 * kNumEachWay * piece_elements : 0) {}

  uint64_t piece_elements() const { return piece_elements_; }
  std::span<float> incoming(uint64_t n) { return At(n % kNumEachWay); }
  std::span<float> outgoing(uint64_t n) { return At(kNumEachWay + n % kNumEachWay); }

 private:
  std::span<float> At(uint64_t i) {
    return std::span(memory_).subspan(i * piece_elements_, piece_elements_);
  }
  uint64_t piece_elements_;
  std::vector<float> memory_;
};

// How the sum of `whole` is best written to `shard`.
Writes WritesOf(std::span<const std::byte> whole, std::span<const std::byte> shard);

// The most elements a piece may have on a channel.
uint64_t PieceElements(const RankMap& ranks, ChannelId channel);

class OrderedSum {
 public:
  // `shard` is this rank's segment of the sum; it may be its place in `whole`.
  OrderedSum(World* world, ChannelState* state, SumBuffers* buffers,
             std::span<const std::byte> whole, std::span<std::byte> shard, uint64_t stride_elements,
             DType dtype);

  Status Run(Announcement announcement);

 private:
  // A piece that this rank works on, in the order in which all ranks go through them.
  struct Piece {
    uint64_t row = 0;
    uint32_t owner = 0;
    Segments::Range range = {};  // elements of the whole
  };

  Status Produce(uint64_t row);
  Status AskForSums(uint64_t row);
  Status AskForPartials();
  Status Work(const Piece& piece);
  Status GatherSources(const Piece& piece);
  Result<std::span<std::byte>> TakeOutgoing(uint64_t size_bytes);
  uint32_t WorkerOf(uint32_t node, uint64_t row, uint32_t owner) const;
  // The next piece of this rank's at or after (row, owner); none when row is past the last.
  Piece NextPiece(uint64_t row, uint32_t owner) const;
  bool is_last_node() const { return ranks_.node() + 1 == ranks_.num_nodes(); }

  const RankMap& ranks_;
  Turn turn_;
  SumBuffers& buffers_;
  std::span<const std::byte> whole_;
  std::span<std::byte> shard_;
  Segments segments_;
  DType dtype_;
  Writes writes_;
  std::vector<const std::byte*> sources_;
  Piece asked_for_;                        // the next whose partial sum is to be asked for
  std::deque<Messages::Ticket> incoming_;  // of partial sums, oldest first
  std::vector<Messages::Ticket> outgoing_;
  uint64_t num_worked_ = 0;
  uint64_t num_asked_ = 0;
};

}  // namespace strata::engine
