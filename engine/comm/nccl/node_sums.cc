#include "engine/comm/nccl/node_sums.h"

#include <algorithm>

#include "aio/base/units.h"
#include "engine/comm/nccl/rank_sum.h"
#include "engine/kernels/cuda/launch.h"

namespace strata::engine {
namespace {

constexpr uint64_t kPartialBytes = sizeof(float);
constexpr uint64_t kElementsOfAPack = 8;  // 16 bytes and more, of any type
// The pipe is full for all but the first and last pieces: many small ones keep more nodes busy,
// and below this a tick is latency.
constexpr uint64_t kPiecesOfASegment = 8;
constexpr uint64_t kLeastPieceElements = 65536;

bool IsUnderWay(NcclResult result) {
  return result == NcclResult::kSuccess || result == NcclResult::kInProgress;
}

uint64_t PieceElements(const RankMap& ranks, const NodeSums::Parts& parts) {
  const uint64_t bytes = ranks.local_size() * SizeOf(parts.dtype) + 2 * kPartialBytes;
  const uint64_t fitting = parts.staging.size() / bytes / kElementsOfAPack * kElementsOfAPack;
  const uint64_t wanted =
      std::max(kLeastPieceElements, CeilDiv(parts.segment_elements, kPiecesOfASegment));
  return std::min(fitting, CeilDiv(wanted, kElementsOfAPack) * kElementsOfAPack);
}

}  // namespace

bool SumsNodeByNode(const RankMap& ranks, DType dtype) {
  const uint64_t nodes = ranks.num_nodes();
  const uint64_t others = ranks.world_size() - ranks.local_size();
  return ranks.max_local_size() * nodes == ranks.world_size() &&
         nodes * kPartialBytes < others * SizeOf(dtype);
}

Traffic TrafficOfNodeSums(const RankMap& ranks, DType dtype, uint64_t segment_bytes) {
  const uint64_t nodes = ranks.num_nodes();
  const uint64_t in_node = (ranks.local_size() - 1) * nodes * segment_bytes;
  const uint64_t partials = nodes * segment_bytes / SizeOf(dtype) * kPartialBytes;
  const bool is_first = ranks.node() == 0;
  const bool is_last = ranks.node() + 1 == nodes;
  const uint64_t sent = is_last ? (nodes - 1) * segment_bytes : partials;
  const uint64_t received = (is_first ? 0 : partials) + (is_last ? 0 : segment_bytes);
  return {.bytes_sent = in_node + sent,
          .bytes_received = in_node + received,
          .bytes_sent_between_nodes = sent,
          .bytes_received_between_nodes = received};
}

NodeSums::NodeSums(const Parts& parts) : parts_(parts), ranks_(*parts.ranks) {
  piece_elements_ = PieceElements(ranks_, parts);
  STRATA_CHECK(piece_elements_ > 0);
  num_pieces_ =
      static_cast<int64_t>(CeilDiv(parts.segment_elements, piece_elements_) * ranks_.num_nodes());
  partial_ = parts.staging.data();
  passed_on_ = partial_ + piece_elements_ * kPartialBytes;
  arrived_ = passed_on_ + piece_elements_ * kPartialBytes;
}

Status NodeSums::Run(const tiering::StreamContext& stream) {
  const int64_t num_ticks = num_pieces_ + ranks_.num_nodes();
  for (int64_t tick = 0; tick < num_ticks; ++tick) {
    STRATA_RETURN_IF_ERROR(Exchange(stream, tick));
    const std::optional<Piece> piece = PieceAt(tick - ranks_.node());
    if (piece.has_value()) STRATA_RETURN_IF_ERROR(Add(stream, *piece));
  }
  return OkStatus();
}

std::optional<NodeSums::Piece> NodeSums::PieceAt(int64_t index) const {
  if (index < 0 || index >= num_pieces_) return std::nullopt;
  const uint64_t offset = static_cast<uint64_t>(index) / ranks_.num_nodes() * piece_elements_;
  return Piece{.owners = static_cast<uint32_t>(static_cast<uint64_t>(index) % ranks_.num_nodes()),
               .offset = offset,
               .length = std::min(piece_elements_, parts_.segment_elements - offset)};
}

const std::byte* NodeSums::OwnTerm(const Piece& piece, uint32_t local) const {
  const uint64_t segment = ranks_.first_of(piece.owners) + local;
  return parts_.whole.data() + BytesOf(segment * parts_.segment_elements + piece.offset);
}

Status NodeSums::Exchange(const tiering::StreamContext& stream, int64_t tick) {
  const std::optional<Piece> piece = PieceAt(tick - ranks_.node());
  return parts_.comm->DoTogether(
      [&](const NcclFunctions& nccl, ncclComm* comm) {
        const NcclResult passed = PassOn(nccl, comm, stream, tick);
        if (!IsUnderWay(passed) || !piece.has_value()) return passed;
        return ExchangeInNode(nccl, comm, stream, *piece);
      },
      "exchange what is to be added up");
}

NcclResult NodeSums::ExchangeInNode(const NcclFunctions& nccl, ncclComm* comm,
                                    const tiering::StreamContext& stream,
                                    const Piece& piece) const {
  const cudaStream_t native = cuda::NativeStream(stream);
  const uint64_t size_bytes = BytesOf(piece.length);
  const uint32_t num = ranks_.local_size();
  const uint32_t first = ranks_.first_of(ranks_.node());
  for (uint32_t step = 1; step < num; ++step) {
    const uint32_t to = (ranks_.local_rank() + step) % num;
    const uint32_t from = (ranks_.local_rank() + num - step) % num;
    const NcclResult sent = nccl.send(OwnTerm(piece, to), size_bytes, NcclType::kByte,
                                      static_cast<int>(first + to), comm, native);
    if (!IsUnderWay(sent)) return sent;
    const NcclResult asked =
        nccl.receive(arrived_ + from * BytesOf(piece_elements_), size_bytes, NcclType::kByte,
                     static_cast<int>(first + from), comm, native);
    if (!IsUnderWay(asked)) return asked;
  }
  return NcclResult::kSuccess;
}

// A sum that is made in one tick leaves in the next: a partial one to the next node, a whole one,
// which the last node makes, to its owner.
NcclResult NodeSums::PassOn(const NcclFunctions& nccl, ncclComm* comm,
                            const tiering::StreamContext& stream, int64_t tick) const {
  const cudaStream_t native = cuda::NativeStream(stream);
  const auto send = [&](uint32_t node, uint64_t size_bytes) {
    return nccl.send(passed_on_, size_bytes, NcclType::kByte, static_cast<int>(Twin(node)), comm,
                     native);
  };
  const auto receive = [&](std::byte* to, uint32_t node, uint64_t size_bytes) {
    return nccl.receive(to, size_bytes, NcclType::kByte, static_cast<int>(Twin(node)), comm,
                        native);
  };
  const uint32_t node = ranks_.node();
  const uint32_t last = ranks_.num_nodes() - 1;
  const std::optional<Piece> now = PieceAt(tick - node);
  const std::optional<Piece> before = PieceAt(tick - 1 - node);
  const std::optional<Piece> summed = PieceAt(tick - 1 - last);
  NcclResult result = NcclResult::kSuccess;
  if (before.has_value() && node < last) result = send(node + 1, before->length * kPartialBytes);
  if (IsUnderWay(result) && now.has_value() && node > 0)
    result = receive(partial_, node - 1, now->length * kPartialBytes);
  if (!IsUnderWay(result) || !summed.has_value() || summed->owners == last) return result;
  if (node == last) return send(summed->owners, BytesOf(summed->length));
  if (node != summed->owners) return result;
  return receive(parts_.sum + BytesOf(summed->offset), last, BytesOf(summed->length));
}

Status NodeSums::Add(const tiering::StreamContext& stream, const Piece& piece) const {
  const bool stays = is_last_node() && piece.owners == ranks_.node();
  return SumInRankOrder(stream,
                        {.own = OwnTerm(piece, ranks_.local_rank()),
                         .arrived = arrived_,
                         .stride_bytes = BytesOf(piece_elements_),
                         .rank = ranks_.local_rank(),
                         .world_size = ranks_.local_size(),
                         .partial = ranks_.node() > 0 ? partial_ : nullptr,
                         .is_partial = !is_last_node()},
                        parts_.dtype, piece.length,
                        stays ? parts_.sum + BytesOf(piece.offset) : passed_on_);
}

}  // namespace strata::engine
