#include "engine/comm/internal/ordered_sum.h"

namespace strata::engine {
namespace {

constexpr uint64_t kLongestPieceElements = 65536;

}  // namespace

// Where the sum replaces what was just read, it is in the caches already, and to write past them
// costs more than it saves.
Writes WritesOf(std::span<const std::byte> whole, std::span<const std::byte> shard) {
  const auto begin = reinterpret_cast<uintptr_t>(whole.data());
  const auto at = reinterpret_cast<uintptr_t>(shard.data());
  const bool is_in_place = at >= begin && at < begin + whole.size();
  const bool fits = shard.size() < kPastCachesBytes;
  return fits || is_in_place ? Writes::kThroughCaches : Writes::kPastCaches;
}

uint64_t PieceElements(const RankMap& ranks, ChannelId channel) {
  const uint64_t fitting =
      NodeMemory::SlotBytes(channel) / ranks.world_size() / sizeof(float) / 16 * 16;
  STRATA_CHECK(fitting > 0);
  return std::min(kLongestPieceElements, fitting);
}

OrderedSum::OrderedSum(World* world, ChannelState* state, SumBuffers* buffers,
                       std::span<const std::byte> whole, std::span<std::byte> shard,
                       uint64_t stride_elements, DType dtype)
    : ranks_(world->ranks()),
      turn_(world, state),
      buffers_(*buffers),
      whole_(whole),
      shard_(shard),
      segments_{stride_elements, whole.size() / SizeOf(dtype), buffers->piece_elements()},
      dtype_(dtype),
      writes_(WritesOf(whole, shard)),
      sources_(ranks_.local_size()) {}

Status OrderedSum::Run(Announcement announcement) {
  announcement.size_bytes = whole_.size();
  announcement.dtype = dtype_;
  const uint64_t num_rows = segments_.num_rows();
  STRATA_RETURN_IF_ERROR(turn_.Begin({announcement, num_rows, whole_, {}}));
  asked_for_ = NextPiece(0, 0);
  Piece piece = asked_for_;
  for (uint64_t row = 0; row < num_rows; ++row) {
    STRATA_RETURN_IF_ERROR(Produce(row));
    STRATA_RETURN_IF_ERROR(AskForSums(row));
    for (; piece.row == row; piece = NextPiece(row, piece.owner + 1)) {
      STRATA_RETURN_IF_ERROR(AskForPartials());
      STRATA_RETURN_IF_ERROR(Work(piece));
    }
    turn_.PublishConsumed(row + 1);
  }
  return turn_.End();
}

// In a slot, the pieces of all owners follow each other.
Status OrderedSum::Produce(uint64_t row) {
  const uint64_t num_rows = segments_.num_rows();
  for (uint32_t owner = 0; owner < ranks_.world_size(); ++owner) {
    const bool others_read =
        ranks_.local_size() > 1 && WorkerOf(ranks_.node(), row, owner) != ranks_.rank();
    if (others_read)
      turn_.traffic().bytes_sent += segments_.part(owner, row).length * SizeOf(dtype_);
  }
  if (!turn_.source_is_staged()) {
    if (row == 0) turn_.PublishProduced(num_rows);
    return OkStatus();
  }
  if (ranks_.local_size() == 1) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(std::byte * slot, turn_.TakeSlot(row));
  for (uint32_t owner = 0; owner < ranks_.world_size(); ++owner) {
    const Segments::Range part = segments_.part(owner, row);
    BestReduceKernels().copy(slot + owner * segments_.row_length * SizeOf(dtype_),
                             whole_.data() + part.begin * SizeOf(dtype_),
                             part.length * SizeOf(dtype_), Writes::kThroughCaches);
  }
  turn_.PublishProduced(row + 1);
  return OkStatus();
}

// The sums of this rank's own segment, from workers of the last node.
Status OrderedSum::AskForSums(uint64_t row) {
  const Segments::Range part = segments_.part(ranks_.rank(), row);
  if (is_last_node() || part.length == 0) return OkStatus();
  const uint32_t worker = WorkerOf(ranks_.num_nodes() - 1, row, ranks_.rank());
  return turn_
      .Receive(
          worker, MessageTag::kSum,
          shard_.subspan(row * segments_.row_length * SizeOf(dtype_), part.length * SizeOf(dtype_)))
      .status();
}

// Partial sums from the node before, some pieces ahead.
Status OrderedSum::AskForPartials() {
  if (ranks_.node() == 0) return OkStatus();
  while (num_asked_ < num_worked_ + SumBuffers::kNumEachWay &&
         asked_for_.row < segments_.num_rows()) {
    const uint32_t from = WorkerOf(ranks_.node() - 1, asked_for_.row, asked_for_.owner);
    const std::span<float> into = buffers_.incoming(num_asked_).first(asked_for_.range.length);
    STRATA_ASSIGN_OR_RETURN(
        const Messages::Ticket ticket,
        turn_.Receive(from, MessageTag::kPartialSum, std::as_writable_bytes(into)));
    incoming_.push_back(ticket);
    ++num_asked_;
    asked_for_ = NextPiece(asked_for_.row, asked_for_.owner + 1);
  }
  return OkStatus();
}

Status OrderedSum::Work(const Piece& piece) {
  SumArguments sum{.source_dtype = dtype_, .num_elements = piece.range.length};
  if (ranks_.node() > 0) {
    STRATA_RETURN_IF_ERROR(turn_.Await(incoming_.front()));
    incoming_.pop_front();
    sum.partial = buffers_.incoming(num_worked_).data();
  }
  STRATA_RETURN_IF_ERROR(GatherSources(piece));
  sum.sources = sources_;
  if (is_last_node() && piece.owner == ranks_.rank()) {
    sum.to = shard_.data() + piece.row * segments_.row_length * SizeOf(dtype_);
    sum.to_dtype = dtype_;
    sum.writes = writes_;
    BestReduceKernels().sum(sum);
    ++num_worked_;
    return OkStatus();
  }
  sum.to_dtype = is_last_node() ? dtype_ : DType::kF32;
  STRATA_ASSIGN_OR_RETURN(const std::span<std::byte> out,
                          TakeOutgoing(piece.range.length * SizeOf(sum.to_dtype)));
  sum.to = out.data();
  BestReduceKernels().sum(sum);
  const uint32_t to =
      is_last_node() ? piece.owner : WorkerOf(ranks_.node() + 1, piece.row, piece.owner);
  const MessageTag tag = is_last_node() ? MessageTag::kSum : MessageTag::kPartialSum;
  STRATA_ASSIGN_OR_RETURN(const Messages::Ticket ticket, turn_.Send(to, tag, out));
  outgoing_.push_back(ticket);
  ++num_worked_;
  return OkStatus();
}

Status OrderedSum::GatherSources(const Piece& piece) {
  const uint64_t element_bytes = SizeOf(dtype_);
  const Turn::Place place{.offset_bytes = piece.range.begin * element_bytes,
                          .slot_offset_bytes = piece.owner * segments_.row_length * element_bytes};
  for (uint32_t local = 0; local < ranks_.local_size(); ++local) {
    const uint32_t peer = ranks_.first_of(ranks_.node()) + local;
    if (peer == ranks_.rank()) {
      sources_[local] = whole_.data() + place.offset_bytes;
      continue;
    }
    STRATA_ASSIGN_OR_RETURN(sources_[local], turn_.AwaitProduced(peer, piece.row, place));
    turn_.traffic().bytes_received += piece.range.length * element_bytes;
  }
  return OkStatus();
}

// A buffer that no message is read from any more.
Result<std::span<std::byte>> OrderedSum::TakeOutgoing(uint64_t size_bytes) {
  if (outgoing_.size() >= SumBuffers::kNumEachWay) {
    const Messages::Ticket oldest = outgoing_[outgoing_.size() - SumBuffers::kNumEachWay];
    STRATA_RETURN_IF_ERROR(turn_.Await(oldest));
  }
  return std::as_writable_bytes(buffers_.outgoing(outgoing_.size())).first(size_bytes);
}

uint32_t OrderedSum::WorkerOf(uint32_t node, uint64_t row, uint32_t owner) const {
  const bool owner_works = node + 1 == ranks_.num_nodes() && ranks_.node_of(owner) == node;
  if (owner_works) return owner;
  const uint64_t piece = row * ranks_.world_size() + owner;
  return ranks_.first_of(node) + static_cast<uint32_t>(piece % ranks_.size_of(node));
}

OrderedSum::Piece OrderedSum::NextPiece(uint64_t row, uint32_t owner) const {
  for (; row < segments_.num_rows(); ++row, owner = 0) {
    for (; owner < ranks_.world_size(); ++owner) {
      if (WorkerOf(ranks_.node(), row, owner) != ranks_.rank()) continue;
      const Segments::Range range = segments_.part(owner, row);
      if (range.length > 0) return {row, owner, range};
    }
  }
  return {.row = segments_.num_rows()};
}

}  // namespace strata::engine
