#include "engine/comm/internal/gather.h"

namespace strata::engine {
namespace {

constexpr uint64_t kLongestRowBytes = 1_MiB;
constexpr uint64_t kRowsAhead = 8;  // asked for before they are needed

// A slot holds a row of our own segment and of each that we receive for the node.
uint64_t RowBytes(const RankMap& ranks, ChannelId channel) {
  const uint64_t fitting = NodeMemory::SlotBytes(channel) / (1 + ranks.max_served()) / 64 * 64;
  STRATA_CHECK(fitting > 0);
  return std::min(kLongestRowBytes, fitting);
}

}  // namespace

Gather::Gather(World* world, ChannelState* state, std::span<const std::byte> own,
               std::span<std::byte> whole, uint64_t stride_bytes)
    : ranks_(world->ranks()),
      turn_(world, state),
      own_(own),
      whole_(whole),
      segments_{stride_bytes, whole.size(), RowBytes(ranks_, state->id)},
      writes_(whole.size() >= kPastCachesBytes ? Writes::kPastCaches : Writes::kThroughCaches) {
  for (uint32_t local = 0; local < ranks_.local_size(); ++local)
    served_.push_back(ranks_.served_by(ranks_.first_of(ranks_.node()) + local));
}

Status Gather::Run(Announcement announcement) {
  announcement.size_bytes = whole_.size();
  const uint64_t num_rows = segments_.num_rows();
  STRATA_RETURN_IF_ERROR(turn_.Begin({announcement, num_rows, own_, whole_}));
  for (uint64_t row = 0; row < num_rows; ++row) {
    STRATA_RETURN_IF_ERROR(Produce(row));
    STRATA_RETURN_IF_ERROR(SendToNodes(row));
    STRATA_RETURN_IF_ERROR(ReceiveFromNodes(row));
    STRATA_RETURN_IF_ERROR(ReadNode(row));
    STRATA_RETURN_IF_ERROR(Relay(row));
    STRATA_RETURN_IF_ERROR(ReadRelayed(row));
    turn_.PublishConsumed(row + 1);
  }
  return turn_.End();
}

Status Gather::Produce(uint64_t row) {
  if (stages_source() || stages_relay()) {
    STRATA_ASSIGN_OR_RETURN(slot_, turn_.TakeSlot(row));
  }
  if (!stages_source()) {
    if (row == 0) turn_.PublishProduced(segments_.num_rows());
    return OkStatus();
  }
  const std::span<const std::byte> part = OwnPart(row);
  BestReduceKernels().copy(slot_, part.data(), part.size(), Writes::kThroughCaches);
  turn_.PublishProduced(row + 1);
  return OkStatus();
}

std::span<const std::byte> Gather::OwnPart(uint64_t row) const {
  const uint64_t length = segments_.part(ranks_.rank(), row).length;
  return length == 0 ? own_.first(0) : own_.subspan(row * segments_.row_length, length);
}

Status Gather::SendToNodes(uint64_t row) {
  const std::span<const std::byte> bytes = OwnPart(row);
  turn_.traffic().bytes_sent += bytes.size() * (ranks_.local_size() - 1);
  if (bytes.empty()) return OkStatus();
  for (uint32_t step = 1; step < ranks_.num_nodes(); ++step) {
    const uint32_t node = (ranks_.node() + step) % ranks_.num_nodes();
    const uint32_t server = ranks_.server_of(node, ranks_.rank());
    STRATA_RETURN_IF_ERROR(turn_.Send(server, MessageTag::kRow, bytes).status());
  }
  return OkStatus();
}

// To where the others read it. In slots, no row can be asked for before its slot is free.
Status Gather::ReceiveFromNodes(uint64_t row) {
  const std::vector<uint32_t>& served = served_[ranks_.local_rank()];
  const uint64_t ahead = stages_relay() ? 1 : kRowsAhead;
  const uint64_t end = std::min(segments_.num_rows(), row + ahead);
  for (; num_received_rows_ < end; ++num_received_rows_) {
    tickets_.emplace_back();
    for (size_t i = 0; i < served.size(); ++i) {
      const Segments::Range part = segments_.part(served[i], num_received_rows_);
      if (part.length == 0) continue;
      std::byte* to =
          stages_relay() ? slot_ + (1 + i) * segments_.row_length : whole_.data() + part.begin;
      STRATA_ASSIGN_OR_RETURN(
          const Messages::Ticket ticket,
          turn_.Receive(served[i], MessageTag::kRow, std::span(to, part.length)));
      tickets_.back().push_back(ticket);
    }
  }
  return OkStatus();
}

// Begins with the next rank, so that all do not read the same one at once.
Status Gather::ReadNode(uint64_t row) {
  Put(ranks_.rank(), row, OwnPart(row).data());
  for (uint32_t step = 1; step < ranks_.local_size(); ++step) {
    const uint32_t peer =
        ranks_.first_of(ranks_.node()) + (ranks_.local_rank() + step) % ranks_.local_size();
    const Segments::Range part = segments_.part(peer, row);
    if (part.length == 0) continue;
    STRATA_ASSIGN_OR_RETURN(
        const std::byte* from,
        turn_.AwaitProduced(peer, row, {.offset_bytes = row * segments_.row_length}));
    Put(peer, row, from);
    turn_.traffic().bytes_received += part.length;
  }
  return OkStatus();
}

Status Gather::Relay(uint64_t row) {
  const std::vector<uint32_t>& served = served_[ranks_.local_rank()];
  if (served.empty()) return OkStatus();
  size_t next = 0;
  for (size_t i = 0; i < served.size(); ++i) {
    const Segments::Range part = segments_.part(served[i], row);
    if (part.length == 0) continue;
    STRATA_RETURN_IF_ERROR(turn_.Await(tickets_[row][next++]));
    turn_.traffic().bytes_sent += part.length * (ranks_.local_size() - 1);
    if (stages_relay()) Put(served[i], row, slot_ + (1 + i) * segments_.row_length);
  }
  turn_.PublishRelayed(row + 1);
  return OkStatus();
}

Status Gather::ReadRelayed(uint64_t row) {
  for (uint32_t step = 1; step < ranks_.local_size(); ++step) {
    const uint32_t local = (ranks_.local_rank() + step) % ranks_.local_size();
    for (size_t i = 0; i < served_[local].size(); ++i) {
      const Segments::Range part = segments_.part(served_[local][i], row);
      if (part.length == 0) continue;
      STRATA_ASSIGN_OR_RETURN(
          const std::byte* from,
          turn_.AwaitRelayed(
              ranks_.first_of(ranks_.node()) + local, row,
              {.offset_bytes = part.begin, .slot_offset_bytes = (1 + i) * segments_.row_length}));
      Put(served_[local][i], row, from);
      turn_.traffic().bytes_received += part.length;
    }
  }
  return OkStatus();
}

void Gather::Put(uint32_t rank, uint64_t row, const std::byte* from) {
  const Segments::Range part = segments_.part(rank, row);
  if (part.length == 0) return;
  std::byte* to = whole_.data() + part.begin;
  if (to != from) BestReduceKernels().copy(to, from, part.length, writes_);
}

}  // namespace strata::engine
