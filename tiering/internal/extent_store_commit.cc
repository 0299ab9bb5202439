// Generations: commit, rollback, release.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aio/base/log.h"
#include "tiering/internal/extent_store.h"

namespace strata::tiering {

Status ExtentStore::CheckWritable() const {
  if (!options_.read_only) return OkStatus();
  return FailedPrecondition(fmt::format("{} was opened read-only", paths_.Folder(0)));
}

void ExtentStore::SetLive(BlockState& state, std::optional<BlockVersion> version) {
  if (version) extents_.Hold(version->extent);
  if (state.live) extents_.Drop(state.live->extent);
  state.live = version;
}

void ExtentStore::HoldAll(const GenerationRecord& record) {
  for (const auto& version : record.versions)
    if (version) extents_.Hold(version->extent);
}

void ExtentStore::DropAll(const GenerationRecord& record) {
  for (const auto& version : record.versions)
    if (version) extents_.Drop(version->extent);
}

GenerationRecord* ExtentStore::Find(uint64_t generation) {
  auto found = std::ranges::find_if(records_, [&](const GenerationRecord& record) {
    return !record.stale && record.about.number == generation;
  });
  return found == records_.end() ? nullptr : &*found;
}

void ExtentStore::ListGenerations() {
  generations_.clear();
  for (const GenerationRecord& record : records_)
    if (!record.stale) generations_.push_back(record.about);
}

Status ExtentStore::SyncFiles() {
  for (aio::File& file : files_) STRATA_RETURN_IF_ERROR(file.SyncData());
  return OkStatus();
}

GenerationRecord ExtentStore::RecordOfLive(std::string metadata, bool pin) const {
  GenerationRecord record;
  record.about = {.number = last_number_ + 1, .metadata = std::move(metadata), .pinned = pin};
  for (const BlockState& state : blocks_) {
    bool durable = state.about.durability == Durability::kDurable;
    record.versions.push_back(durable ? state.live : std::nullopt);
    if (record.versions.back()) record.versions.back()->generation = record.about.number;
  }
  return record;
}

Manifest ExtentStore::ManifestOf(const GenerationRecord& record) const {
  Manifest manifest{.generation = record.about.number,
                    .rank = paths_.rank(),
                    .pinned = record.about.pinned,
                    .metadata = record.about.metadata,
                    .num_directories = static_cast<uint32_t>(files_.size()),
                    .segments = extents_.segments(),
                    .blocks = {}};
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const BlockDescription& about = blocks_[i].about;
    if (about.durability != Durability::kDurable) continue;
    BlockRecord block{.name = about.name, .size_bytes = about.size_bytes};
    if (const auto& version = record.versions[i]) {
      const Extent& extent = extents_.extent(version->extent);
      block.written = true;
      block.directory = extent.directory;
      block.offset_bytes = extent.offset_bytes;
      block.checksum = version->checksum;
    }
    manifest.blocks.push_back(std::move(block));
  }
  return manifest;
}

Status ExtentStore::Write(const GenerationRecord& record) {
  STRATA_ASSIGN_OR_RETURN(uint64_t size_bytes, WriteManifest(paths_, ManifestOf(record)));
  counters_.manifest_bytes += size_bytes;
  return OkStatus();
}

Result<uint64_t> ExtentStore::Commit(std::string metadata, bool pin) {
  std::lock_guard lock(mutex_);
  STRATA_RETURN_IF_ERROR(Freeze(std::move(metadata), pin));
  return FinishPending();
}

// Makes a record valid whose extents are held.
Result<uint64_t> ExtentStore::FinishCommit(GenerationRecord record) {
  uint64_t number = record.about.number;
  std::string what = fmt::format("committing generation {}", number);
  lost_writes_ = SyncFiles();
  if (!lost_writes_.ok()) {
    DropAll(record);
    return lost_writes_.With(what);
  }
  last_number_ = number;
  Status status = Write(record);
  // A manifest whose directory could not be synced may be there or not. Its blocks stay as they are
  // until it is surely gone.
  record.stale = !status.ok();
  records_.push_back(std::move(record));
  if (status.ok()) MarkSuperseded(number);
  RemoveStale();
  ListGenerations();
  if (!status.ok()) return status.With(what);
  RemoveDamaged();
  ++counters_.commits;
  return number;
}

void ExtentStore::MarkSuperseded(uint64_t committed) {
  for (GenerationRecord& record : records_) {
    uint64_t number = record.about.number;
    // Those after the one the store was opened at belong to a history that did not go on.
    bool abandoned = number > base_generation_ && number < committed;
    if (number != committed && (!record.about.pinned || abandoned)) record.stale = true;
  }
  base_generation_ = committed;
  // Live versions that are part of it are committed now; others came after it was begun.
  const GenerationRecord& newest = records_.back();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    std::optional<BlockVersion>& live = blocks_[i].live;
    if (live && newest.versions[i] && live->extent == newest.versions[i]->extent)
      live = newest.versions[i];
  }
}

void ExtentStore::RemoveStale() {
  std::erase_if(records_, [this](const GenerationRecord& record) {
    if (!record.stale) return false;
    Status removed = RemoveManifest(paths_, record.about.number);
    if (!removed.ok()) {
      Log(Severity::kWarning, "tiering", "generation {} keeps its space until the next commit: {}",
          record.about.number, removed.message());
      return false;
    }
    DropAll(record);
    return true;
  });
}

void ExtentStore::RemoveDamaged() {
  std::erase_if(damaged_manifests_, [this](uint64_t generation) {
    Status removed = RemoveManifest(paths_, generation);
    if (!removed.ok()) Log(Severity::kWarning, "tiering", "{}", removed.message());
    return removed.ok();
  });
}

void ExtentStore::Rollback() {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(num_in_flight_ == 0);
  RemoveStale();  // what a failed commit left may be in the way of the next writes
  const GenerationRecord* base = pending_ ? &pending_->record : Find(base_generation_);
  for (size_t i = 0; i < blocks_.size(); ++i)
    if (blocks_[i].about.durability == Durability::kDurable)
      SetLive(blocks_[i], base ? base->versions[i] : std::nullopt);
}

Status ExtentStore::Release(uint64_t generation) {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(num_in_flight_ == 0 && !pending_);
  STRATA_RETURN_IF_ERROR(CheckWritable());
  GenerationRecord* record = Find(generation);
  if (record == nullptr || !record->about.pinned) {
    return NotFound(
        fmt::format("releasing generation {}: {} has no pinned generation of that "
                    "number",
                    generation, paths_.Folder(0)));
  }
  std::string what = fmt::format("releasing generation {}", generation);
  if (generation == base_generation_) {  // goes with the next commit, as any other
    record->about.pinned = false;
    Status status = Write(*record).With(what);
    record->about.pinned = !status.ok();
    ListGenerations();
    return status;
  }
  STRATA_RETURN_IF_ERROR(RemoveManifest(paths_, generation).With(what));
  DropAll(*record);
  records_.erase(records_.begin() + (record - records_.data()));
  ListGenerations();
  return OkStatus();
}

}  // namespace strata::tiering
