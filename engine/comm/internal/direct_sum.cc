#include "engine/comm/internal/direct_sum.h"

#include <algorithm>

#include "engine/comm/internal/ordered_sum.h"

namespace strata::engine {
namespace {

constexpr uint64_t kMostBufferBytes = 16_MiB;

// Short enough for a staging slot and for what arrives of all ranks.
uint64_t RowElements(const RankMap& ranks, ChannelId channel, DType dtype, uint64_t rows_ahead) {
  const uint64_t fitting = kMostBufferBytes / rows_ahead / ranks.world_size() / SizeOf(dtype);
  return std::min(PieceElements(ranks, channel), std::max<uint64_t>(16, fitting / 16 * 16));
}

}  // namespace

bool SumsDirectly(const RankMap& ranks, DType dtype) {
  return ranks.num_nodes() > 1 && ranks.max_local_size() * SizeOf(dtype) <= sizeof(float);
}

DirectSum::DirectSum(World* world, ChannelState* state, std::vector<std::byte>* buffer,
                     std::span<const std::byte> whole, std::span<std::byte> shard,
                     uint64_t stride_elements, DType dtype)
    : ranks_(world->ranks()),
      turn_(world, state),
      buffer_(*buffer),
      whole_(whole),
      shard_(shard),
      dtype_(dtype),
      segments_{stride_elements, whole.size() / SizeOf(dtype),
                RowElements(ranks_, state->id, dtype, kRowsAhead)},
      writes_(WritesOf(whole, shard)),
      sources_(ranks_.world_size()) {
  const uint64_t needed = kRowsAhead * ranks_.world_size() * BytesOf(segments_.row_length);
  if (buffer_.size() < needed) buffer_.resize(needed);
}

Status DirectSum::Run(Announcement announcement) {
  announcement.size_bytes = whole_.size();
  announcement.dtype = dtype_;
  const uint64_t num_rows = segments_.num_rows();
  STRATA_RETURN_IF_ERROR(turn_.Begin({announcement, num_rows, whole_, {}}));
  for (uint64_t row = 0; row < num_rows; ++row) {
    STRATA_RETURN_IF_ERROR(Produce(row));
    STRATA_RETURN_IF_ERROR(SendToOwners(row));
    STRATA_RETURN_IF_ERROR(AskForRows(std::min(num_rows, row + kRowsAhead)));
    STRATA_RETURN_IF_ERROR(Sum(row));
    turn_.PublishConsumed(row + 1);
  }
  return turn_.End();
}

// For the ranks of this node. In a slot, the parts of all owners follow each other.
Status DirectSum::Produce(uint64_t row) {
  const uint32_t first = ranks_.first_of(ranks_.node());
  for (uint32_t peer = first; peer < first + ranks_.local_size(); ++peer)
    if (peer != ranks_.rank())
      turn_.traffic().bytes_sent += BytesOf(segments_.part(peer, row).length);
  if (!turn_.source_is_staged()) {
    if (row == 0) turn_.PublishProduced(segments_.num_rows());
    return OkStatus();
  }
  if (ranks_.local_size() == 1) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(std::byte * slot, turn_.TakeSlot(row));
  for (uint32_t peer = first; peer < first + ranks_.local_size(); ++peer) {
    const Segments::Range part = segments_.part(peer, row);
    BestReduceKernels().copy(slot + BytesOf(peer * segments_.row_length),
                             whole_.data() + BytesOf(part.begin), BytesOf(part.length),
                             Writes::kThroughCaches);
  }
  turn_.PublishProduced(row + 1);
  return OkStatus();
}

// Begins with the next rank, so that all do not send to the same one at once.
Status DirectSum::SendToOwners(uint64_t row) {
  const uint32_t world = ranks_.world_size();
  for (uint32_t step = 1; step < world; ++step) {
    const uint32_t owner = (ranks_.rank() + step) % world;
    const Segments::Range part = segments_.part(owner, row);
    if (ranks_.is_local(owner) || part.length == 0) continue;
    const std::span<const std::byte> bytes =
        whole_.subspan(BytesOf(part.begin), BytesOf(part.length));
    STRATA_RETURN_IF_ERROR(turn_.Send(owner, MessageTag::kPartialSum, bytes).status());
  }
  return OkStatus();
}

Status DirectSum::AskForRows(uint64_t end) {
  for (; num_asked_rows_ < end; ++num_asked_rows_) {
    const uint64_t bytes = BytesOf(segments_.part(ranks_.rank(), num_asked_rows_).length);
    tickets_.emplace_back(ranks_.world_size());
    for (uint32_t rank = 0; rank < ranks_.world_size() && bytes > 0; ++rank) {
      if (ranks_.is_local(rank)) continue;
      const std::span<std::byte> into = Arriving(rank, num_asked_rows_).first(bytes);
      STRATA_ASSIGN_OR_RETURN(tickets_.back()[rank],
                              turn_.Receive(rank, MessageTag::kPartialSum, into));
    }
  }
  return OkStatus();
}

Status DirectSum::Sum(uint64_t row) {
  const Segments::Range part = segments_.part(ranks_.rank(), row);
  if (part.length == 0) return OkStatus();
  for (uint32_t rank = 0; rank < ranks_.world_size(); ++rank) {
    STRATA_ASSIGN_OR_RETURN(sources_[rank], Source(rank, row, part));
  }
  BestReduceKernels().sum({.sources = sources_,
                           .source_dtype = dtype_,
                           .to = shard_.data() + BytesOf(row * segments_.row_length),
                           .to_dtype = dtype_,
                           .num_elements = part.length,
                           .writes = writes_});
  return OkStatus();
}

Result<const std::byte*> DirectSum::Source(uint32_t rank, uint64_t row, Segments::Range part) {
  if (rank == ranks_.rank()) return whole_.data() + BytesOf(part.begin);
  if (!ranks_.is_local(rank)) {
    STRATA_RETURN_IF_ERROR(turn_.Await(tickets_[row][rank]));
    return Arriving(rank, row).data();
  }
  turn_.traffic().bytes_received += BytesOf(part.length);
  return turn_.AwaitProduced(rank, row,
                             {.offset_bytes = BytesOf(part.begin),
                              .slot_offset_bytes = BytesOf(ranks_.rank() * segments_.row_length)});
}

std::span<std::byte> DirectSum::Arriving(uint32_t rank, uint64_t row) {
  const uint64_t bytes = BytesOf(segments_.row_length);
  return std::span(buffer_).subspan((row % kRowsAhead * ranks_.world_size() + rank) * bytes, bytes);
}

}  // namespace strata::engine
