#include "tests/fakes/fault_engine.h"

#include <algorithm>
#include <memory>

#include "aio/base/units.h"
#include "aio/internal/posix_engine.h"

namespace strata::fakes {
namespace {

using aio::IoDirection;
using aio::IoTransfer;

IoTransfer PartOf(const IoTransfer& whole, uint64_t first_bytes, uint64_t length_bytes) {
  IoTransfer part = whole;
  part.offset_bytes += first_bytes;
  part.memory += first_bytes;
  part.length_bytes = std::min(length_bytes, whole.length_bytes - first_bytes);
  return part;
}

// Whether a request may start like this, which the rest of one that stopped short need not.
bool IsAligned(const IoTransfer& transfer) {
  return transfer.offset_bytes % transfer.file->offset_alignment_bytes() == 0 &&
         reinterpret_cast<uintptr_t>(transfer.memory) % transfer.file->memory_alignment_bytes() ==
             0;
}

// A Status has no errno, so the kernel is asked for its answer. If it has nothing against the
// transfer, the engine is to blame.
int64_t WhyNot(const IoTransfer& transfer) {
  int64_t result = aio::TransferBySystemCall(transfer);
  return result == static_cast<int64_t>(transfer.length_bytes) ? -EIO : result;
}

// At least one sector stays as it was. As far as the kernel can tell all are written.
int64_t WriteTorn(const IoTransfer& transfer, uint64_t random) {
  uint64_t sector_bytes = SectorBytes(transfer);
  uint64_t num_sectors = CeilDiv(transfer.length_bytes, sector_bytes);
  uint64_t lost = random % num_sectors;
  bool only_a_prefix = MixBits(random) % 2 == 0;
  for (uint64_t sector = 0; sector < num_sectors; ++sector) {
    bool stays = only_a_prefix ? sector >= lost : sector == lost || MixBits(random ^ sector) % 2;
    if (stays) continue;
    int64_t result =
        aio::TransferBySystemCall(PartOf(transfer, sector * sector_bytes, sector_bytes));
    if (result < 0) return result;
  }
  return static_cast<int64_t>(transfer.length_bytes);
}

int64_t WriteFlipped(const IoTransfer& transfer, uint64_t random) {
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> copy(
      static_cast<std::byte*>(std::aligned_alloc(4_KiB, RoundUp(transfer.length_bytes, 4_KiB))));
  STRATA_CHECK(copy != nullptr);
  std::copy_n(transfer.memory, transfer.length_bytes, copy.get());
  *copy ^= std::byte{1} << (random % 8);
  IoTransfer flipped = transfer;
  flipped.memory = copy.get();
  return aio::TransferBySystemCall(flipped);
}

FaultPlace PlaceOf(const aio::ReadRange& range) {
  return {IoDirection::kRead, range.file->path(), range.offset_bytes, range.into.size()};
}

FaultPlace PlaceOf(const aio::WriteRange& range) {
  return {IoDirection::kWrite, range.file->path(), range.offset_bytes, range.from.size()};
}

template <typename Range>
std::vector<FaultPlace> PlacesOf(std::span<const Range> ranges) {
  std::vector<FaultPlace> places;
  for (const Range& range : ranges) places.push_back(PlaceOf(range));
  return places;
}

}  // namespace

void HungRequests::Wait() {
  std::unique_lock lock(mutex_);
  let_go_.wait(lock, [&] { return !hangs_; });
}

void HungRequests::LetGo() {
  std::lock_guard lock(mutex_);
  hangs_ = false;
  let_go_.notify_all();
}

FaultEngine::FaultEngine(std::unique_ptr<aio::IoEngine> real, const FaultOptions& options)
    : plan_(std::make_shared<FaultPlan>(options.seed)),
      delay_(options.delay),
      real_(std::move(real)) {
  plan_->SetChances(options.chances);
  auto front =
      aio::PosixEngine::Create({.backend = aio::IoBackend::kPosix,
                                .block_size_bytes = options.block_size_bytes,
                                .queue_depth = options.transfers_in_flight},
                               [this](const IoTransfer& transfer) { return Transfer(transfer); });
  STRATA_CHECK(front.ok());
  front_ = std::move(front).value();
}

void FaultEngine::SpoilRead(const Fault& fault, uint64_t nth) {
  plan_->SpoilRequest(IoDirection::kRead, fault, nth);
}

void FaultEngine::SpoilWrite(const Fault& fault, uint64_t nth) {
  plan_->SpoilRequest(IoDirection::kWrite, fault, nth);
}

aio::IoTicket FaultEngine::StartReads(std::span<const aio::ReadRange> ranges,
                                      aio::RequestOptions options) {
  plan_->OnRequest(PlacesOf(ranges));
  return front_->StartReads(ranges, std::move(options));
}

aio::IoTicket FaultEngine::StartWrites(std::span<const aio::WriteRange> ranges,
                                       aio::RequestOptions options) {
  plan_->OnRequest(PlacesOf(ranges));
  return front_->StartWrites(ranges, std::move(options));
}

int64_t FaultEngine::Transfer(const IoTransfer& transfer) {
  std::optional<FaultPlan::Decision> decision = plan_->Decide(transfer);
  int64_t result = decision ? Spoil(transfer, *decision) : Move(transfer);
  CountMoved();
  return result;
}

int64_t FaultEngine::Spoil(const IoTransfer& transfer, const FaultPlan::Decision& decision) {
  bool is_read = transfer.direction == IoDirection::kRead;
  int64_t result = 0;
  switch (decision.fault.kind) {
    case FaultKind::kError:
      return -decision.fault.error_number;
    case FaultKind::kShort:
      return Move(Shortened(transfer, decision.random));
    case FaultKind::kDelayed:
      result = Move(transfer);
      LetOthersGoFirst();
      return result;
    case FaultKind::kReordered:
      LetOthersGoFirst();
      return Move(transfer);
    case FaultKind::kHung:
      hung_->Wait();
      return Move(transfer);
    case FaultKind::kTorn:
      return WriteTorn(transfer, decision.random);
    case FaultKind::kLost:
      return static_cast<int64_t>(transfer.length_bytes);
    case FaultKind::kFlipped:
      if (!is_read) return WriteFlipped(transfer, decision.random);
      result = Move(transfer);
      if (result > 0) *transfer.memory ^= std::byte{1} << (decision.random % 8);
      return result;
  }
  return -EINVAL;
}

int64_t FaultEngine::Move(const IoTransfer& transfer) {
  if (!IsAligned(transfer)) return aio::TransferBySystemCall(transfer);
  std::span<std::byte> memory(transfer.memory, transfer.length_bytes);
  aio::IoTicket ticket = transfer.direction == IoDirection::kRead
                             ? real_->StartRead(*transfer.file, transfer.offset_bytes, memory)
                             : real_->StartWrite(*transfer.file, transfer.offset_bytes, memory);
  return ticket.Wait().ok() ? static_cast<int64_t>(memory.size()) : WhyNot(transfer);
}

void FaultEngine::LetOthersGoFirst() {
  std::unique_lock lock(mutex_);
  uint64_t until = num_moved_ + 3;
  moved_one_.wait_for(lock, delay_, [&] { return num_moved_ >= until; });
}

void FaultEngine::CountMoved() {
  std::lock_guard lock(mutex_);
  ++num_moved_;
  moved_one_.notify_all();
}

}  // namespace strata::fakes
