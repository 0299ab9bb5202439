#include "engine/train/checkpointer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>
#include <vector>

#include "aio/base/log.h"
#include "engine/train/ranks.h"

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
  // With several ranks it takes all of them to finish one, and they have failed, too.
  if (!pending_ || failure.code() == Code::kDeadlineExceeded || has_ranks()) return failure;
  uint64_t step = pending_record_.step;
  Status finished = Finish();
  if (finished.ok()) return failure;
  return Status(failure.code(), fmt::format("{} (and the checkpoint of step {} is lost: {})",
                                            failure.message(), step, finished.message()));
}

Status Checkpointer::Begin(const RunRecord& record, bool pin) {
  pending_record_ = record;
  pending_record_.is_checkpoint = pin;
  Result<std::unique_ptr<tiering::PendingCommit>> pending =
      store_.BeginCommit(ToJson(pending_record_), pin || has_ranks());
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator_, pending.status()));
  pending_ = std::move(pending).value();
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
  Status written = AgreeOn(communicator_, behind_.Finish());
  std::unique_ptr<tiering::PendingCommit> pending = std::move(pending_);
  STRATA_RETURN_IF_ERROR(written);
  Result<uint64_t> generation = pending->Finish();
  STRATA_RETURN_IF_ERROR(AgreeOn(communicator_, generation.status()));
  committed_step_ = record.step;
  if (!pins_pending_) return has_ranks() ? ReleaseOld().status() : OkStatus();
  if (is_first()) STRATA_RETURN_IF_ERROR(ShowCheckpoint(record, *generation));
  return Reconcile();
}

Status Checkpointer::ShowCheckpoint(const RunRecord& record, uint64_t generation) {
  return directory_.WriteCheckpoint(
      record.step, fmt::format("{{\"step\":{},\"generation\":{},\"record\":{}}}\n", record.step,
                               generation, ToJson(record)));
}

// Returns the checkpoints that stay.
Result<std::vector<Checkpointer::Kept>> Checkpointer::ReleaseOld() {
  std::vector<Kept> checkpoints;
  std::vector<uint64_t> others;
  for (const tiering::Generation& generation : store_.generations()) {
    if (!generation.pinned) continue;
    STRATA_ASSIGN_OR_RETURN(RunRecord record, ParseRunRecord(generation.metadata));
    if (record.is_checkpoint)
      checkpoints.push_back({generation.number, std::move(record)});
    else
      others.push_back(generation.number);
  }
  const size_t num_old =
      checkpoints.size() - std::min<size_t>(checkpoints.size(), config_.keep_last);
  for (size_t i = 0; i < num_old; ++i) others.push_back(checkpoints[i].generation);
  // With several ranks the newest state is pinned until there is a newer one.
  const uint64_t newest = store_.generations().empty() ? 0 : store_.generations().back().number;
  for (uint64_t number : others)
    if (!has_ranks() || number != newest) STRATA_RETURN_IF_ERROR(store_.Release(number));
  checkpoints.erase(checkpoints.begin(), checkpoints.begin() + static_cast<ptrdiff_t>(num_old));
  return checkpoints;
}

Status Checkpointer::Reconcile() {
  STRATA_ASSIGN_OR_RETURN(std::vector<Kept> kept, ReleaseOld());
  if (!is_first()) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(std::set<uint64_t> shown, directory_.CheckpointSteps());
  for (const Kept& one : kept) {
    if (shown.erase(one.record.step) > 0) continue;
    STRATA_RETURN_IF_ERROR(ShowCheckpoint(one.record, one.generation));
  }
  for (uint64_t stale : shown) STRATA_RETURN_IF_ERROR(directory_.RemoveCheckpoint(stale));
  return OkStatus();
}

}  // namespace strata::engine
