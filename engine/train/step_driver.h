// Takes steps, each of the kind that fits: knows which step's update the state has, and which
// gradients still wait.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "aio/base/status.h"
#include "engine/optimizer/loss_scaler.h"
#include "engine/train/clip_policy.h"
#include "engine/train/planning.h"
#include "engine/train/run_record.h"
#include "engine/train/step_runner.h"
#include "engine/train/watchdog.h"
#include "prefetch/executor.h"
#include "tiering/arena.h"
#include "tiering/block_store.h"
#include "tiering/device.h"

namespace strata::engine {

struct StepDriverParts {
  const PlannedRun* run = nullptr;
  StepRunner* runner = nullptr;
  tiering::Device* device = nullptr;
  const tiering::Arena* host = nullptr;
  tiering::BlockStore* store = nullptr;
  Watchdog* watchdog = nullptr;
};

StepRunnerOptions RunnerOptionsOf(const PlannedRun& run);

struct DrivenStep {
  StepKind kind = StepKind::kAfterNorm;
  prefetch::Timeline timeline;
  StepResult result;
  // Its updates were taken back, to be made again from the same gradients, clipped.
  bool rolled_back = false;
  // fp16: its gradients overflowed, so that there is no update.
  bool skipped = false;
  double loss_scale = 1;
  double learning_rate = 0;  // of its update
};

struct StepCounts {
  uint64_t clipped = 0;
  uint64_t rolled_back = 0;
  uint64_t flushed = 0;
  uint64_t skipped = 0;
};

// Thread-compatible. The parts outlive it. After a failure of any of its functions it is used up,
// and the state is what the store's last commit has; a gradient that is not finite is no failure.
class StepDriver {
 public:
  // The state is the one that `progress` is about.
  StepDriver(const StepDriverParts& parts, const RunProgress& progress);

  // The next step is to start from the state after all steps: Flush() and commit first.
  bool NeedsFlush() const { return pending_ && NextKind() == StepKind::kSpeculative; }
  bool has_pending() const { return pending_; }
  // Applies the gradients that wait, if any do.
  Status Flush();
  // Gets ready for the next step where that needs another plan, or cached copies are void.
  Status Prepare();
  // A step, which goes on from all before it. When its gradient is not finite: in fp16 it is done,
  // but there is no update (`skipped`), and the loss scale follows its rule. Else
  // (StepResult::not_finite) it counts as not done: its gradients are dropped, its updates, if
  // there were any, taken back; the state is that after the steps before, and another may follow.
  Result<DrivenStep> Step();

  uint64_t steps_done() const { return done_.steps; }
  // What the state in the store and in memory is that after.
  const RunProgress& applied() const { return applied_; }
  const StepCounts& counts() const { return counts_; }
  // Gives up its plan's cached copies, which are in memory that others may want.
  void ReleaseMemory() { executor_.reset(); }

 private:
  StepKind NextKind() const;
  Status Become(StepKind kind);
  Result<prefetch::Timeline> Run(StepKind kind);
  double LearningRateOf(uint64_t update) const;
  Status Settle(DrivenStep* step);
  // Takes back what a speculative step did. Whether it is a step that has done anything for good.
  bool Applies(DrivenStep* step);
  void Observe(bool clipped);

  StepDriverParts parts_;
  ClipPolicy policy_;
  RunProgress done_;
  RunProgress applied_;
  std::optional<LossScaler> scaler_;      // fp16
  bool pending_ = false;                  // gradients of step done_.steps - 1 wait
  StepKind kind_ = StepKind::kAfterNorm;  // of executor_
  std::unique_ptr<prefetch::Executor> executor_;
  StepCounts counts_;
};

}  // namespace strata::engine
