// Commits in two halves: begun, written into, finished.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "tiering/internal/checksum.h"
#include "tiering/internal/extent_store.h"
#include "tiering/internal/store_operation.h"

namespace strata::tiering {

// The caller's end of ExtentStore::pending_.
class ExtentStore::Pending final : public PendingCommit {
 public:
  explicit Pending(ExtentStore* store) : store_(store) {}
  ~Pending() override {
    if (!is_over_) store_->AbandonPending();
  }

  StoreTicket StartWrite(StoreBlock block, std::span<const std::byte> from,
                         aio::IoDone done) override {
    STRATA_CHECK(!is_over_);
    return store_->StartPendingWrite(block, from, std::move(done));
  }

  Result<uint64_t> Finish() override {
    STRATA_CHECK(!std::exchange(is_over_, true));
    std::lock_guard lock(store_->mutex_);
    return store_->FinishPending();
  }

 private:
  ExtentStore* const store_;
  bool is_over_ = false;
};

Result<std::unique_ptr<PendingCommit>> ExtentStore::BeginCommit(std::string metadata, bool pin) {
  std::lock_guard lock(mutex_);
  STRATA_RETURN_IF_ERROR(Freeze(std::move(metadata), pin));
  return std::unique_ptr<PendingCommit>(std::make_unique<Pending>(this));
}

Status ExtentStore::Freeze(std::string metadata, bool pin) {
  STRATA_CHECK(num_in_flight_ == 0 && !pending_);
  STRATA_RETURN_IF_ERROR(CheckWritable());
  STRATA_RETURN_IF_ERROR(lost_writes_.With("an earlier flush failed, open the store anew"));
  pending_.emplace(PendingRecord{.record = RecordOfLive(std::move(metadata), pin),
                                 .busy = std::vector<bool>(blocks_.size()),
                                 .failure = {}});
  HoldAll(pending_->record);
  return OkStatus();
}

Result<uint64_t> ExtentStore::FinishPending() {
  STRATA_CHECK(num_in_flight_ == 0 && pending_ && pending_->num_in_flight == 0);
  PendingRecord pending = std::move(*pending_);
  pending_.reset();
  if (pending.failure.ok()) return FinishCommit(std::move(pending.record));
  DropAll(pending.record);
  return pending.failure.With(fmt::format("committing generation {}", pending.record.about.number));
}

void ExtentStore::AbandonPending() {
  std::lock_guard lock(mutex_);
  STRATA_CHECK(pending_ && pending_->num_in_flight == 0);
  DropAll(pending_->record);
  pending_.reset();
}

void ExtentStore::FailPending(const Status& failure) {
  if (pending_->failure.ok()) pending_->failure = failure;
}

StoreTicket ExtentStore::StartPendingWrite(StoreBlock block, std::span<const std::byte> from,
                                           aio::IoDone done) {
  std::unique_lock lock(mutex_);
  auto index = static_cast<size_t>(block);
  const BlockState& state = State(block);
  STRATA_CHECK(pending_ && !pending_->busy[index]);
  STRATA_CHECK(state.about.durability == Durability::kDurable);
  CheckSource(state, from);
  auto extent = TakeExtent(state);
  if (!extent.ok()) {
    FailPending(extent.status());
    lock.unlock();
    if (done) done();
    return StoreTicket(std::make_unique<StoreTicket::Operation>(extent.status()));
  }
  pending_->busy[index] = true;
  ++pending_->num_in_flight;
  BlockVersion version{.extent = *extent, .generation = pending_->record.about.number};
  return StartWriteTo(std::move(lock), version, state, from, std::move(done),
                      [this, block](const BlockVersion& written, const Status& io_status) {
                        return EndPendingWrite(block, written, io_status);
                      });
}

Status ExtentStore::EndPendingWrite(StoreBlock block, const BlockVersion& version,
                                    const Status& io_status) {
  std::lock_guard lock(mutex_);
  auto index = static_cast<size_t>(block);
  BlockState& state = State(block);
  pending_->busy[index] = false;
  --pending_->num_in_flight;
  if (!io_status.ok()) {
    extents_.Drop(version.extent);
    Status failure = io_status.With(Where(state, version));
    FailPending(failure);
    return failure;
  }
  counters_.bytes_written += state.padded_bytes;
  counters_.pending_bytes_written += state.padded_bytes;
  std::optional<BlockVersion>& frozen = pending_->record.versions[index];
  bool is_live = state.live.has_value() == frozen.has_value() &&
                 (!frozen || state.live->extent == frozen->extent);
  if (frozen) extents_.Drop(frozen->extent);
  frozen = version;  // and takes over the write's hold
  if (!is_live) return OkStatus();
  SetLive(state, version);
  state.live->generation = 0;  // not committed yet
  return OkStatus();
}

}  // namespace strata::tiering
