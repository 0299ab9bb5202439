#include "tiering/internal/extent_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "tiering/arena.h"
#include "tiering/internal/checksum.h"
#include "tiering/internal/store_operation.h"

namespace strata::tiering {
namespace {

constexpr uint64_t kSampledReads = 16;  // Verify::kSampled looks at one in this many

bool IsAligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % kSlotAlignmentBytes == 0;
}

}  // namespace

ExtentStore::ExtentStore(StoreParts parts)
    : options_(std::move(parts.options)),
      paths_(std::move(parts.paths)),
      lock_(std::move(parts.lock)),
      engine_(parts.engine),
      files_(std::move(parts.files)),
      extents_(std::move(parts.extents)),
      records_(std::move(parts.generations)),
      base_generation_(parts.base_generation),
      last_number_(parts.last_number),
      damaged_manifests_(std::move(parts.damaged_manifests)) {
  for (size_t i = 0; i < parts.blocks.size(); ++i) {
    uint64_t padded_bytes = RoundUp(parts.blocks[i].size_bytes, kSlotAlignmentBytes);
    blocks_.push_back({.about = std::move(parts.blocks[i]),
                       .padded_bytes = padded_bytes,
                       .scratch_extent = parts.scratch_extents[i],
                       .live = {}});
  }
  for (const GenerationRecord& record : records_) HoldAll(record);
  ListGenerations();
  Rollback();
}

ExtentStore::~ExtentStore() { STRATA_CHECK(num_in_flight_ == 0 && !pending_); }

ExtentStore::BlockState& ExtentStore::State(StoreBlock block) {
  return const_cast<BlockState&>(std::as_const(*this).State(block));
}

const ExtentStore::BlockState& ExtentStore::State(StoreBlock block) const {
  auto index = static_cast<size_t>(block);
  STRATA_CHECK(index < blocks_.size());
  return blocks_[index];
}

ExtentStore::BlockState& ExtentStore::Begin(StoreBlock block) {
  BlockState& state = State(block);
  STRATA_CHECK(!state.busy);
  state.busy = true;
  ++num_in_flight_;
  return state;
}

void ExtentStore::End(BlockState& state) {
  state.busy = false;
  --num_in_flight_;
}

const aio::File& ExtentStore::FileOf(const BlockVersion& version) const {
  return files_[extents_.extent(version.extent).directory];
}

std::string ExtentStore::Where(const BlockState& state, const BlockVersion& version) const {
  const Extent& extent = extents_.extent(version.extent);
  std::string generation = version.generation == 0
                               ? "not committed yet"
                               : fmt::format("generation {}", version.generation);
  return fmt::format("block '{}' ({}) in {} offset_bytes={} length_bytes={}", state.about.name,
                     generation, files_[extent.directory].path(), extent.offset_bytes,
                     extent.size_bytes);
}

StoreTicket ExtentStore::EndAtOnce(BlockState& state, Status failure) {
  End(state);
  return StoreTicket(std::make_unique<StoreTicket::Operation>(std::move(failure)));
}

Result<BlockVersion> ExtentStore::BeginRead(BlockState& state) {
  if (state.live) return *state.live;
  return NotFound(fmt::format("reading block '{}': it was never written", state.about.name));
}

StoreTicket ExtentStore::StartRead(StoreBlock block, std::span<std::byte> into, aio::IoDone done) {
  std::unique_lock lock(mutex_);
  BlockState& state = Begin(block);
  STRATA_CHECK(into.size() >= state.padded_bytes && IsAligned(into.data()));
  auto version = BeginRead(state);
  if (!version.ok()) {
    StoreTicket failed = EndAtOnce(state, version.status());
    lock.unlock();
    if (done) done();
    return failed;
  }
  const aio::File& file = FileOf(*version);
  uint64_t offset_bytes = extents_.extent(version->extent).offset_bytes;
  lock.unlock();
  std::span<std::byte> bytes = into.first(state.padded_bytes);
  return StoreTicket(std::make_unique<StoreTicket::Operation>(
      engine_->StartRead(file, offset_bytes, bytes, {.done = std::move(done)}),
      [this, &state, version = *version, bytes](const Status& io_status) {
        return EndRead(state, version, bytes, io_status);
      }));
}

bool ExtentStore::ShouldVerify() {
  if (options_.verify != Verify::kSampled) return options_.verify == Verify::kAlways;
  return num_reads_.fetch_add(1) % kSampledReads == 0;
}

Status ExtentStore::EndRead(BlockState& state, const BlockVersion& version,
                            std::span<const std::byte> bytes, const Status& io_status) {
  uint64_t checksum = version.checksum;
  if (io_status.ok() && ShouldVerify()) checksum = Checksum(bytes.first(state.about.size_bytes));
  std::lock_guard lock(mutex_);
  End(state);
  if (!io_status.ok()) return io_status.With(Where(state, version));
  counters_.bytes_read += state.padded_bytes;
  return CompareChecksum(state, version, checksum);
}

Status ExtentStore::CompareChecksum(const BlockState& state, const BlockVersion& version,
                                    uint64_t checksum) const {
  if (checksum == version.checksum) return OkStatus();
  return DataLoss(fmt::format(
      "{}: its checksum is {:016x}, it was written with {:016x}: the drive returned other bytes "
      "than it was given; go back to a checkpoint from before, or restore it",
      Where(state, version), checksum, version.checksum));
}

// Where a write may go, held by the write from now on. A version that no generation holds, or will,
// is overwritten: it is lost if the write fails, and so is the step.
Result<ExtentIndex> ExtentStore::BeginWrite(BlockState& state) {
  STRATA_RETURN_IF_ERROR(CheckWritable());
  bool in_place = state.live &&
                  (state.scratch_extent ||
                   (state.live->generation == 0 && extents_.num_holders(state.live->extent) == 1));
  if (in_place) return std::exchange(state.live, std::nullopt)->extent;
  if (state.scratch_extent) {
    extents_.Hold(*state.scratch_extent);
    return *state.scratch_extent;
  }
  return TakeExtent(state);
}

Result<ExtentIndex> ExtentStore::TakeExtent(const BlockState& state) {
  if (auto free = extents_.Take(state.padded_bytes)) return *free;
  return ResourceExhausted(fmt::format(
      "writing block '{}': no extent of {} is free, {} generations{} hold them: release "
      "a pinned one, "
      "or open the store with a higher num_generations than {}",
      state.about.name, FormatBytes(state.padded_bytes), records_.size(),
      pending_ ? " and a pending one" : "", options_.num_generations));
}

StoreTicket ExtentStore::StartWrite(StoreBlock block, std::span<const std::byte> from,
                                    aio::IoDone done) {
  std::unique_lock lock(mutex_);
  BlockState& state = Begin(block);
  CheckSource(state, from);
  auto extent = BeginWrite(state);
  if (!extent.ok()) {
    StoreTicket failed = EndAtOnce(state, extent.status());
    lock.unlock();
    if (done) done();
    return failed;
  }
  return StartWriteTo(std::move(lock), {.extent = *extent}, state, from, std::move(done),
                      [this, &state](const BlockVersion& version, const Status& io_status) {
                        return EndWrite(state, version, io_status);
                      });
}

void ExtentStore::CheckSource(const BlockState& state, std::span<const std::byte> from) {
  STRATA_CHECK(from.size() >= state.padded_bytes && IsAligned(from.data()));
}

StoreTicket ExtentStore::StartWriteTo(std::unique_lock<std::mutex> lock, BlockVersion version,
                                      const BlockState& state, std::span<const std::byte> from,
                                      aio::IoDone done, EndOfWrite end) {
  const aio::File& file = FileOf(version);
  uint64_t offset_bytes = extents_.extent(version.extent).offset_bytes;
  lock.unlock();
  version.checksum = Checksum(from.first(state.about.size_bytes));
  return StoreTicket(std::make_unique<StoreTicket::Operation>(
      engine_->StartWrite(file, offset_bytes, from.first(state.padded_bytes),
                          {.done = std::move(done)}),
      [version, end = std::move(end)](const Status& io_status) {
        return end(version, io_status);
      }));
}

Status ExtentStore::EndWrite(BlockState& state, const BlockVersion& version,
                             const Status& io_status) {
  std::lock_guard lock(mutex_);
  End(state);
  if (!io_status.ok()) {
    extents_.Drop(version.extent);
    return io_status.With(Where(state, version));
  }
  if (state.live) extents_.Drop(state.live->extent);
  state.live = version;  // and takes over the write's hold
  counters_.bytes_written += state.padded_bytes;
  return OkStatus();
}

Status ExtentStore::ReadRange(StoreBlock block, uint64_t offset_bytes, std::span<std::byte> into) {
  std::unique_lock lock(mutex_);
  BlockState& state = Begin(block);
  STRATA_CHECK(offset_bytes % kSlotAlignmentBytes == 0 && into.size() % kSlotAlignmentBytes == 0);
  STRATA_CHECK(offset_bytes <= state.padded_bytes &&
               into.size() <= state.padded_bytes - offset_bytes && IsAligned(into.data()));
  auto version = BeginRead(state);
  if (!version.ok() || into.empty()) {
    End(state);
    return version.status();
  }
  lock.unlock();
  Status status = ReadPiece(*version, offset_bytes, into);
  lock.lock();
  End(state);
  if (!status.ok()) return status.With(Where(state, *version));
  counters_.bytes_read += into.size();
  return OkStatus();
}

// Of a block that is busy, so that its extent stays as it is.
Status ExtentStore::ReadPiece(const BlockVersion& version, uint64_t offset_bytes,
                              std::span<std::byte> into) {
  aio::IoTicket ticket = engine_->StartRead(
      FileOf(version), extents_.extent(version.extent).offset_bytes + offset_bytes, into);
  Status status = ticket.Wait();
  ticket = aio::IoTicket();  // after a deadline: the memory is lent until the read is over
  return status;
}

Status ExtentStore::Check(StoreBlock block, std::span<std::byte> piece) {
  std::unique_lock lock(mutex_);
  BlockState& state = Begin(block);
  STRATA_CHECK(!piece.empty() && piece.size() % kSlotAlignmentBytes == 0 &&
               IsAligned(piece.data()));
  auto version = BeginRead(state);
  lock.unlock();
  Status status = version.ok() ? CheckPieces(state, *version, piece) : version.status();
  lock.lock();
  End(state);
  if (status.ok()) counters_.bytes_read += state.padded_bytes;
  return status;
}

Status ExtentStore::CheckPieces(const BlockState& state, const BlockVersion& version,
                                std::span<std::byte> piece) {
  ChecksumOfPieces checksum;
  for (uint64_t at = 0; at < state.about.size_bytes; at += piece.size()) {
    std::span<std::byte> now = piece.first(std::min(piece.size(), state.padded_bytes - at));
    STRATA_RETURN_IF_ERROR(ReadPiece(version, at, now).With(Where(state, version)));
    checksum.Add(now.first(std::min(now.size(), state.about.size_bytes - at)));
  }
  return CompareChecksum(state, version, checksum.Value());
}

void ExtentStore::Discard(StoreBlock block) {
  std::lock_guard lock(mutex_);
  BlockState& state = State(block);
  STRATA_CHECK(state.about.durability == Durability::kScratch && !state.busy);
  SetLive(state, std::nullopt);
}

bool ExtentStore::HasVersion(StoreBlock block) const {
  std::lock_guard lock(mutex_);
  return State(block).live.has_value();
}

StoreCounters ExtentStore::counters() const {
  std::lock_guard lock(mutex_);
  StoreCounters counters = counters_;
  counters.live_bytes = extents_.held_bytes();
  counters.peak_bytes = extents_.peak_bytes();
  return counters;
}

uint64_t ExtentStore::capacity_bytes() const {
  return std::accumulate(extents_.end_bytes().begin(), extents_.end_bytes().end(), uint64_t{0});
}

}  // namespace strata::tiering
