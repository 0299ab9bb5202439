#include "engine/comm/internal/spread.h"

namespace strata::engine {
namespace {

constexpr uint64_t kRowBytes = 512_KiB;
constexpr uint64_t kRowsAhead = 8;

}  // namespace

Spread::Spread(World* world, ChannelState* state, std::span<std::byte> bytes, uint32_t root)
    : ranks_(world->ranks()),
      turn_(world, state),
      bytes_(bytes),
      root_(root),
      steps_((ranks_.node() + ranks_.num_nodes() - ranks_.node_of(root)) % ranks_.num_nodes()),
      source_(SourceOf(steps_)),
      segments_{bytes.size(), bytes.size(), kRowBytes} {
  STRATA_CHECK(kRowBytes <= NodeMemory::SlotBytes(state->id));
}

uint32_t Spread::SourceOf(uint32_t steps) const {
  if (steps == 0) return root_;
  return ranks_.first_of((ranks_.node_of(root_) + steps) % ranks_.num_nodes());
}

Status Spread::Run(Announcement announcement) {
  announcement.size_bytes = bytes_.size();
  announcement.root = root_;
  const uint64_t num_rows = segments_.num_rows();
  STRATA_RETURN_IF_ERROR(turn_.Begin({announcement, num_rows, bytes_, {}}));
  for (uint64_t row = 0; row < num_rows; ++row) {
    if (source_ == ranks_.rank()) {
      STRATA_RETURN_IF_ERROR(Receive(row));
      STRATA_RETURN_IF_ERROR(Forward(row));
      STRATA_RETURN_IF_ERROR(Produce(row));
    } else {
      STRATA_RETURN_IF_ERROR(Read(row));
    }
    turn_.PublishConsumed(row + 1);
  }
  return turn_.End();
}

Status Spread::Receive(uint64_t row) {
  if (steps_ == 0) return OkStatus();
  const uint32_t from = SourceOf(steps_ - 1);
  while (incoming_.size() < std::min(segments_.num_rows(), row + kRowsAhead)) {
    STRATA_ASSIGN_OR_RETURN(const Messages::Ticket ticket,
                            turn_.Receive(from, MessageTag::kRow, Row(incoming_.size())));
    incoming_.push_back(ticket);
  }
  return turn_.Await(incoming_[row]);
}

Status Spread::Forward(uint64_t row) {
  if (steps_ + 1 == ranks_.num_nodes()) return OkStatus();
  return turn_.Send(SourceOf(steps_ + 1), MessageTag::kRow, Row(row)).status();
}

Status Spread::Produce(uint64_t row) {
  if (ranks_.local_size() == 1) return OkStatus();
  turn_.traffic().bytes_sent += Row(row).size() * (ranks_.local_size() - 1);
  if (turn_.source_is_staged()) {
    STRATA_ASSIGN_OR_RETURN(std::byte * slot, turn_.TakeSlot(row));
    BestReduceKernels().copy(slot, Row(row).data(), Row(row).size(), Writes::kThroughCaches);
  }
  turn_.PublishProduced(row + 1);
  return OkStatus();
}

Status Spread::Read(uint64_t row) {
  const std::span<std::byte> to = Row(row);
  STRATA_ASSIGN_OR_RETURN(
      const std::byte* from,
      turn_.AwaitProduced(source_, row, {.offset_bytes = row * segments_.row_length}));
  BestReduceKernels().copy(to.data(), from, to.size(), Writes::kThroughCaches);
  turn_.traffic().bytes_received += to.size();
  return OkStatus();
}

}  // namespace strata::engine
