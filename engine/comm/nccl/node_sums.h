// Reduce-scatter over nodes of several GPUs: of each piece, one GPU of every node adds what its
// node has, in rank order, to the fp32 sum that the node before sent (docs/decisions/0041). The
// sum is that of GPUs that send each other everything, bit for bit; between nodes go 4 bytes of an
// element once per node, instead of its own bytes from each of their GPUs.
//
// Pieces travel through the nodes like through a pipe, in ticks: in tick t node n works on piece
// t - n, while the sum of the piece before leaves it. So all sends and receives of a tick are one
// group, in which every send has its receive.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "aio/base/status.h"
#include "engine/comm/communicator.h"
#include "engine/comm/internal/rank_map.h"
#include "engine/comm/nccl/nccl_comm.h"
#include "engine/kernels/dtype.h"
#include "tiering/device.h"

namespace strata::engine {

// Whether fewer bytes leave the GPU that sends most than when all send each other everything. Only
// where nodes have equally many.
bool SumsNodeByNode(const RankMap& ranks, DType dtype);

// What a rank sends and receives of a sum of segments of `segment_bytes`.
Traffic TrafficOfNodeSums(const RankMap& ranks, DType dtype, uint64_t segment_bytes);

class NodeSums {
 public:
  struct Parts {
    const RankMap* ranks = nullptr;
    NcclComm* comm = nullptr;
    std::span<std::byte> staging;  // aligned to 16 bytes
    std::span<const std::byte> whole;
    uint64_t segment_elements = 0;
    std::byte* sum = nullptr;  // of this rank's segment; may be its place in `whole`
    DType dtype = DType::kF32;
  };
  explicit NodeSums(const Parts& parts);

  // Puts all of it on the stream.
  Status Run(const tiering::StreamContext& stream);

 private:
  // The same range of the segments of one node's ranks: of the rank with this one's place in that
  // node, this rank works on it.
  struct Piece {
    uint32_t owners = 0;  // their node
    uint64_t offset = 0;  // elements
    uint64_t length = 0;
  };
  std::optional<Piece> PieceAt(int64_t index) const;
  // What of this tick's pieces goes to other ranks and comes from them.
  Status Exchange(const tiering::StreamContext& stream, int64_t tick);
  NcclResult ExchangeInNode(const NcclFunctions& nccl, ncclComm* comm,
                            const tiering::StreamContext& stream, const Piece& piece) const;
  NcclResult PassOn(const NcclFunctions& nccl, ncclComm* comm, const tiering::StreamContext& stream,
                    int64_t tick) const;
  Status Add(const tiering::StreamContext& stream, const Piece& piece) const;

  bool is_last_node() const { return ranks_.node() + 1 == ranks_.num_nodes(); }
  // The rank of another node with this one's place in it.
  uint32_t Twin(uint32_t node) const { return ranks_.first_of(node) + ranks_.local_rank(); }
  uint64_t BytesOf(uint64_t elements) const { return elements * SizeOf(parts_.dtype); }
  // What this rank adds to the piece that `local` of the node works on.
  const std::byte* OwnTerm(const Piece& piece, uint32_t local) const;

  const Parts parts_;
  const RankMap& ranks_;
  uint64_t piece_elements_ = 0;
  int64_t num_pieces_ = 0;
  std::byte* partial_ = nullptr;  // from the node before
  std::byte* passed_on_ = nullptr;
  std::byte* arrived_ = nullptr;  // from ranks of this node, `piece_elements_` of each
};

}  // namespace strata::engine
