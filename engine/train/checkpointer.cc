#include "engine/train/checkpointer.h"

#include <fmt/format.h>

#include <vector>

namespace strata::engine {

bool Checkpointer::IsCheckpoint(uint64_t step) const {
  if (step == 0) return false;
  if (step == total_steps_) return true;
  return config_.every_steps > 0 && step % config_.every_steps == 0;
}

Status Checkpointer::AfterStep(const RunRecord& record, Force force) {
  if (committed_step_ == record.step) return OkStatus();
  bool is_checkpoint = IsCheckpoint(record.step);
  if (!is_checkpoint && !commits_every_step_ && force == Force::kNo) return OkStatus();
  bool pin = is_checkpoint && config_.keep_last > 0;
  return Commit(record, pin).With(fmt::format("checkpoint of step {}", record.step));
}

Status Checkpointer::Commit(const RunRecord& record, bool pin) {
  STRATA_RETURN_IF_ERROR(state_.SaveMemoryHomes());
  STRATA_ASSIGN_OR_RETURN(uint64_t generation, store_.Commit(ToJson(record), pin));
  committed_step_ = record.step;
  if (!pin) return OkStatus();
  STRATA_RETURN_IF_ERROR(directory_.WriteCheckpoint(
      record.step, fmt::format("{{\"step\":{},\"generation\":{},\"record\":{}}}\n", record.step,
                               generation, ToJson(record))));
  return ReleaseOld();
}

Status Checkpointer::ReleaseOld() {
  std::vector<tiering::Generation> pinned;
  for (const tiering::Generation& generation : store_.generations()) {
    if (generation.pinned) pinned.push_back(generation);
  }
  for (size_t i = 0; i + config_.keep_last < pinned.size(); ++i) {
    STRATA_ASSIGN_OR_RETURN(RunRecord old, ParseRunRecord(pinned[i].metadata));
    STRATA_RETURN_IF_ERROR(store_.Release(pinned[i].number));
    STRATA_RETURN_IF_ERROR(directory_.RemoveCheckpoint(old.step));
  }
  return OkStatus();
}

}  // namespace strata::engine
