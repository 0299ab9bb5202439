#include "engine/train/step_driver.h"

#include <fmt/format.h>

#include <utility>

#include "aio/base/check.h"
#include "aio/base/log.h"
#include "engine/config/lr_schedule.h"

namespace strata::engine {

StepRunnerOptions RunnerOptionsOf(const PlannedRun& run) {
  const OptimizerConfig& optimizer = run.config.optimizer;
  return {
      .adam = {.mode = optimizer.type == OptimizerType::kAdamW ? AdamMode::kAdamW : AdamMode::kAdam,
               .beta1 = optimizer.betas[0],
               .beta2 = optimizer.betas[1],
               .eps = optimizer.eps,
               .weight_decay = optimizer.weight_decay},
      .decays_norms = !optimizer.no_decay_norms,
      .gradient_clipping = run.config.train.gradient_clipping,
      .train_batch_size = run.config.train.train_batch_size,
      .threads = run.threads};
}

StepDriver::StepDriver(const StepDriverParts& parts, const RunProgress& progress)
    : parts_(parts), policy_(parts.run->calm_steps), done_(progress), applied_(progress) {
  const RunConfig& config = parts.run->config;
  if (config.train.precision != Precision::kFp16) return;
  scaler_.emplace(config.fp16);
  scaler_->Restore(progress.loss_scale);
}

StepKind StepDriver::NextKind() const {
  switch (parts_.run->program.kind) {
    case StepKind::kSpeculative:
      return policy_.speculates() || !pending_ ? StepKind::kSpeculative : StepKind::kDeferred;
    case StepKind::kDeferred:
      return pending_ ? StepKind::kDeferred : StepKind::kKeep;
    default:
      return parts_.run->program.kind;
  }
}

Status StepDriver::Become(StepKind kind) {
  if (executor_ != nullptr && kind_ == kind) return OkStatus();
  const Watchdog::Scope watched(parts_.watchdog,
                                Doing("reading what is to stay in memory from the drive"));
  executor_.reset();  // before the next one's copies go where this one's were
  StepView step = StepOf(*parts_.run, kind);
  prefetch::ExecutorParts parts{
      .device = parts_.device,
      .host = parts_.host,
      .store = parts_.store,
      .store_blocks = step.store_block_of,
      .run = [runner = parts_.runner](auto op, const auto& operands, const auto& stream) {
        return runner->Run(op, operands, stream);
      }};
  executor_ = std::make_unique<prefetch::Executor>(step.plan, std::move(parts),
                                                   prefetch::ExecutorOptions{});
  kind_ = kind;
  return executor_->Prime();
}

double StepDriver::LearningRateOf(uint64_t update) const {
  const RunConfig& config = parts_.run->config;
  return LearningRate(config.scheduler, config.optimizer.lr, update);
}

// What it applies, if anything, is the update after those of the state.
Result<prefetch::Timeline> StepDriver::Run(StepKind kind) {
  STRATA_RETURN_IF_ERROR(Become(kind));
  parts_.runner->BeginStep({.program = &StepOf(*parts_.run, kind).program,
                            .step = done_.steps,
                            .update = applied_.updates,
                            .learning_rate = LearningRateOf(applied_.updates),
                            .loss_scale = scaler_ ? scaler_->scale() : 1});
  const Watchdog::Scope watched(
      parts_.watchdog, {.describe =
                            [this] {
                              return fmt::format("step {}: {}", done_.steps + 1,
                                                 executor_->DescribeLanes());
                            },
                        .done = [this] { return executor_->progress().nodes_ended; },
                        .working = [this] { return executor_->progress().lanes_working; }});
  return executor_->RunStep();
}

Status StepDriver::Prepare() { return Become(NextKind()); }

Status StepDriver::Flush() {
  if (!pending_) return OkStatus();
  STRATA_RETURN_IF_ERROR(Run(StepKind::kFlush).status().With("applying the last step's gradients"));
  pending_ = false;
  applied_ = done_;
  ++counts_.flushed;
  return OkStatus();
}

Result<DrivenStep> StepDriver::Step() {
  STRATA_CHECK(!NeedsFlush());
  DrivenStep step{.kind = NextKind(), .timeline = {}, .result = {}};
  step.loss_scale = scaler_ ? scaler_->scale() : 1;
  step.learning_rate = LearningRateOf(done_.updates);
  STRATA_ASSIGN_OR_RETURN(step.timeline, Run(step.kind));
  step.result = parts_.runner->result();
  if (step.kind == StepKind::kDeferred) applied_ = done_;
  STRATA_RETURN_IF_ERROR(Settle(&step));
  return step;
}

bool StepDriver::Applies(DrivenStep* step) {
  const bool is_valid = step->result.not_finite.ok();
  if (step->kind == StepKind::kInBackward || step->kind == StepKind::kAfterNorm) return is_valid;
  if (step->kind != StepKind::kSpeculative) return false;
  if (is_valid && !step->result.clipped) return true;
  parts_.store->Rollback();
  executor_.reset();  // its cached copies are of what was rolled back
  step->rolled_back = true;
  ++counts_.rolled_back;
  return false;
}

Status StepDriver::Settle(DrivenStep* step) {
  const bool is_finite = step->result.not_finite.ok();
  const bool applies = Applies(step);
  pending_ = is_finite && !applies;
  if (!is_finite && !scaler_) return OkStatus();
  if (scaler_) {
    STRATA_RETURN_IF_ERROR(scaler_->Update(!is_finite));
    done_.loss_scale = scaler_->state();
  }
  ++done_.steps;
  if (is_finite) ++done_.updates;
  if (!pending_) applied_ = done_;
  if (!is_finite) {
    step->skipped = true;
    ++counts_.skipped;
    return OkStatus();
  }
  if (step->result.clipped) ++counts_.clipped;
  Observe(step->result.clipped);
  return OkStatus();
}

void StepDriver::Observe(bool clipped) {
  const bool speculated = policy_.speculates();
  policy_.Observe(clipped);
  if (parts_.run->program.kind != StepKind::kSpeculative || policy_.speculates() == speculated)
    return;
  if (speculated)
    Log(Severity::kInfo, "train",
        "step {} was clipped: its updates are redone, and updates are deferred until {} steps in a "
        "row are not",
        done_.steps, parts_.run->calm_steps);
  else
    Log(Severity::kInfo, "train",
        "{} steps in a row were not clipped: updates are speculative again",
        parts_.run->calm_steps);
}

}  // namespace strata::engine
