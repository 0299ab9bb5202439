#include "engine/train/checkpoint_verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "engine/checkpoint/tensor_directory.h"
#include "engine/train/saved_state.h"

namespace strata::engine {
namespace {

class Verifier {
 public:
  explicit Verifier(const VerifyCheckpointsOptions& options) : options_(options) {}

  void Verify(const CheckpointInfo& info) {
    ++summary_.checkpoints;
    if (!info.is_complete()) return Damage(info, DataLoss(info.problem));
    const Status status =
        info.kind == CheckpointKind::kPortable ? VerifyPortable(info) : VerifyStored(info);
    if (!status.ok()) Damage(info, status);
  }

  const VerifySummary& summary() const { return summary_; }

 private:
  void Damage(const CheckpointInfo& info, const Status& what) {
    ++summary_.damages;
    options_.on_damage(info, what);
  }

  Status VerifyPortable(const CheckpointInfo& info) {
    STRATA_RETURN_IF_ERROR(CheckTensorDirectory(
        info.path, [&](const Status& what) { Damage(info, what); },
        [&](uint64_t done, uint64_t total) { options_.on_progress(info, done, total); }));
    summary_.bytes += info.size_bytes;
    return OkStatus();
  }

  // Block by block, as what is broken in one says nothing of the others.
  Status VerifyStored(const CheckpointInfo& info) {
    STRATA_ASSIGN_OR_RETURN(SavedRun run, OpenSavedRun(info.path, info.step));
    const auto num_blocks = static_cast<uint32_t>(run.state->layout().blocks.size() *
                                                  run.state->layout().options.world_size);
    for (uint32_t block = 0; block < num_blocks; ++block) {
      const Status status = run.state->Check(block, num_blocks, [](uint64_t, uint64_t) {});
      if (!status.ok()) Damage(info, status);
      options_.on_progress(info, block + 1, num_blocks);
    }
    summary_.bytes += info.size_bytes;
    return OkStatus();
  }

  const VerifyCheckpointsOptions& options_;
  VerifySummary summary_;
};

// What some ranks had committed when their job ended is forgotten when it resumes.
bool IsUnfinished(const CheckpointInfo& info, const std::vector<CheckpointInfo>& all) {
  return info.kind == CheckpointKind::kCommitted && !info.is_complete() &&
         std::ranges::any_of(all, [](const CheckpointInfo& one) { return one.is_complete(); });
}

}  // namespace

Result<VerifySummary> VerifyCheckpoints(const VerifyCheckpointsOptions& options) {
  STRATA_ASSIGN_OR_RETURN(std::vector<CheckpointInfo> all, ListCheckpoints(options.path));
  Verifier verifier(options);
  std::vector<uint64_t> steps;
  for (const CheckpointInfo& info : all) {
    if (IsUnfinished(info, all)) continue;
    steps.push_back(info.step);
    if (!options.step || *options.step == info.step) verifier.Verify(info);
  }
  if (verifier.summary().checkpoints > 0) return verifier.summary();
  if (steps.empty()) return NotFound(fmt::format("{} has no checkpoint yet", options.path));
  return NotFound(fmt::format("{} has no checkpoint of step {}; it has those of steps: {}",
                              options.path, *options.step, fmt::join(steps, " ")));
}

}  // namespace strata::engine
