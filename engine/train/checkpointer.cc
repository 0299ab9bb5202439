#include "engine/train/checkpointer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>
#include <vector>

#include "aio/base/log.h"

namespace strata::engine {
namespace {

constexpr double kLongWaitSeconds = 1;

}  // namespace

bool Checkpointer::IsCheckpoint(uint64_t step) const {
  if (step == 0) return false;
  if (step == total_steps_) return true;
  return config_.every_steps > 0 && step % config_.every_steps == 0;
}

Checkpointer::~Checkpointer() {
  if (pending_) (void)behind_.Finish();  // who wanted to know has asked
}

Status Checkpointer::AfterStep(const RunRecord& record, Force force) {
  STRATA_RETURN_IF_ERROR(FinishTheOneBefore());
  if (committed_step_ == record.step) return OkStatus();
  bool is_checkpoint = IsCheckpoint(record.step);
  if (!is_checkpoint && !commits_every_step_ && force == Force::kNo) return OkStatus();
  bool pin = is_checkpoint && config_.keep_last > 0;
  STRATA_RETURN_IF_ERROR(
      Begin(record, pin).With(fmt::format("checkpoint of step {}", record.step)));
  // No step comes that it could be written behind, or nothing is to be written.
  bool is_now = commits_every_step_ || force == Force::kYes || record.step == total_steps_;
  return is_now ? Finish() : OkStatus();
}

// It had a whole step to be written beside: when that was too short, people may want to know.
Status Checkpointer::FinishTheOneBefore() {
  if (!pending_) return OkStatus();
  uint64_t step = pending_record_.step;
  auto begin = std::chrono::steady_clock::now();
  STRATA_RETURN_IF_ERROR(Finish());
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (seconds > kLongWaitSeconds)
    Log(Severity::kInfo, "train", "waited {:.1f} s for the checkpoint of step {} to be finished",
        seconds, step);
  return OkStatus();
}

Status Checkpointer::AfterFailure(Status failure) {
  // Something may never end then; what is pending is waited for when all is taken down.
  if (!pending_ || failure.code() == Code::kDeadlineExceeded) return failure;
  uint64_t step = pending_record_.step;
  Status finished = Finish();
  if (finished.ok()) return failure;
  return Status(failure.code(), fmt::format("{} (and the checkpoint of step {} is lost: {})",
                                            failure.message(), step, finished.message()));
}

Status Checkpointer::Begin(const RunRecord& record, bool pin) {
  STRATA_ASSIGN_OR_RETURN(pending_, store_.BeginCommit(ToJson(record), pin));
  pending_record_ = record;
  pins_pending_ = pin;
  behind_.Start(pending_.get());
  return OkStatus();
}

Status Checkpointer::Finish() {
  if (!pending_) return OkStatus();
  return FinishCommit(pending_record_)
      .With(fmt::format("checkpoint of step {}", pending_record_.step));
}

Status Checkpointer::FinishCommit(const RunRecord& record) {
  Status written = behind_.Finish();
  std::unique_ptr<tiering::PendingCommit> pending = std::move(pending_);
  STRATA_RETURN_IF_ERROR(written);
  STRATA_ASSIGN_OR_RETURN(uint64_t generation, pending->Finish());
  committed_step_ = record.step;
  if (!pins_pending_) return OkStatus();
  STRATA_RETURN_IF_ERROR(ShowCheckpoint(record, generation));
  return Reconcile();
}

Status Checkpointer::ShowCheckpoint(const RunRecord& record, uint64_t generation) {
  return directory_.WriteCheckpoint(
      record.step, fmt::format("{{\"step\":{},\"generation\":{},\"record\":{}}}\n", record.step,
                               generation, ToJson(record)));
}

// Returns the pinned generations that stay.
Result<std::vector<tiering::Generation>> Checkpointer::ReleaseOld() {
  std::vector<tiering::Generation> pinned;
  for (const tiering::Generation& generation : store_.generations()) {
    if (generation.pinned) pinned.push_back(generation);
  }
  size_t num_old = pinned.size() - std::min<size_t>(pinned.size(), config_.keep_last);
  for (size_t i = 0; i < num_old; ++i) {
    STRATA_RETURN_IF_ERROR(store_.Release(pinned[i].number));
  }
  pinned.erase(pinned.begin(), pinned.begin() + static_cast<ptrdiff_t>(num_old));
  return pinned;
}

Status Checkpointer::Reconcile() {
  STRATA_ASSIGN_OR_RETURN(std::vector<tiering::Generation> kept, ReleaseOld());
  STRATA_ASSIGN_OR_RETURN(std::set<uint64_t> shown, directory_.CheckpointSteps());
  for (const tiering::Generation& generation : kept) {
    STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
    if (shown.erase(record.step) > 0) continue;
    STRATA_RETURN_IF_ERROR(ShowCheckpoint(record, generation.number));
  }
  for (uint64_t stale : shown) STRATA_RETURN_IF_ERROR(directory_.RemoveCheckpoint(stale));
  return OkStatus();
}

}  // namespace strata::engine
