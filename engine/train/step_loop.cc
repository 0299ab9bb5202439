#include "engine/train/step_loop.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "engine/train/ranks.h"
#include "engine/train/run_record.h"
#include "engine/train/state_access.h"
#include "engine/train/state_hash.h"

namespace strata::engine {
namespace {

uint64_t PeakRssBytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Result<std::unique_ptr<StepLoop>> StepLoop::Create(const StepLoopParts& parts) {
  std::unique_ptr<StepLoop> loop(new StepLoop(parts));
  STRATA_RETURN_IF_ERROR(loop->Prepare());
  return loop;
}

Status StepLoop::Prepare() {
  const PlannedRun& run = *parts_.run;
  RunState& state = *parts_.state;
  checkpointer_ = std::make_unique<Checkpointer>(*parts_.config, run.commits_every_step,
                                                 state.progress.steps, *parts_.directory,
                                                 *state.store, *state.behind, *parts_.communicator);
  STRATA_RETURN_IF_ERROR(checkpointer_->Reconcile());
  // From here on the plan's cached copies own the arena; checkpoints use the reserve above it.
  state.access->SetStaging(parts_.host->bytes().last(run.staging_bytes));
  STRATA_ASSIGN_OR_RETURN(
      StepRunner runner,
      StepRunner::Create(
          {&run.layout, run.model.get(), run.kernels.get(), parts_.dataset, parts_.communicator,
           state.behind.get(), parts_.numa, run.device_adam.get()},
          RunnerOptionsOf(run)));
  runner_ = std::make_unique<StepRunner>(std::move(runner));
  driver_ =
      std::make_unique<StepDriver>(StepDriverParts{&run, runner_.get(), parts_.device, parts_.host,
                                                   state.store.get(), parts_.watchdog},
                                   state.progress);
  STRATA_RETURN_IF_ERROR(driver_->Prepare());
  counted_ = state.store->counters();
  sent_ = Sum(parts_.communicator->traffic());
  return OkStatus();
}

StepReport StepLoop::MakeReport(const DrivenStep& step) {
  StepView planned = StepOf(*parts_.run, step.kind);
  StepReport report;
  report.step = driver_->steps_done();
  report.total_steps = parts_.config->train.steps;
  report.loss = step.result.loss;
  report.learning_rate = step.learning_rate;
  report.gradient_norm = step.result.gradient_norm;
  report.clipped = step.result.clipped;
  report.kind = step.kind;
  report.rolled_back = step.rolled_back;
  report.skipped = step.skipped;
  if (parts_.config->train.precision == Precision::kFp16) report.loss_scale = step.loss_scale;
  report.tokens = parts_.config->train.train_batch_size * parts_.config->data.seq_len;
  report.step_s = step.timeline.step_s;
  report.commit_s = commit_s_;
  report.checkpoint_wait_s = parts_.state->behind->TakeWaitedSeconds();
  report.change_s = change_s_;
  report.predicted_step_s = planned.predicted.step_s;
  report.bound_s = planned.bound.seconds;
  report.lanes = UseOf(planned.plan, step.timeline);
  CountTraffic(&report);
  return report;
}

// What was moved since the step before was reported.
void StepLoop::CountTraffic(StepReport* report) {
  const tiering::StoreCounters before = std::exchange(counted_, parts_.state->store->counters());
  report->checkpoint_bytes_written = counted_.pending_bytes_written - before.pending_bytes_written;
  report->nvme_bytes_read = counted_.bytes_read - before.bytes_read;
  report->nvme_bytes_written = counted_.bytes_written - before.bytes_written;
  const Traffic sent_before = std::exchange(sent_, Sum(parts_.communicator->traffic()));
  report->comm_bytes_sent = sent_.bytes_sent - sent_before.bytes_sent;
  report->comm_bytes_received = sent_.bytes_received - sent_before.bytes_received;
}

// What a step must find done: it may need the gradients of the one before applied, and a commit
// that it can go back to.
Status StepLoop::PrepareStep() {
  auto begin = tiering::Clock::now();
  if (driver_->NeedsFlush()) {
    STRATA_RETURN_IF_ERROR(driver_->Flush());
    STRATA_RETURN_IF_ERROR(CommitStep(Checkpointer::Force::kNo));
  }
  STRATA_RETURN_IF_ERROR(driver_->Prepare());
  change_s_ = std::chrono::duration<double>(tiering::Clock::now() - begin).count();
  return OkStatus();
}

Result<StepReport> StepLoop::RunStep() {
  STRATA_RETURN_IF_ERROR(PrepareStep());
  STRATA_ASSIGN_OR_RETURN(DrivenStep step, driver_->Step());
  if (!step.result.not_finite.ok() && !step.skipped) {
    // The steps before it are not lost.
    STRATA_RETURN_IF_ERROR(CommitStep(Checkpointer::Force::kNo));
    return step.result.not_finite;
  }
  StepReport report = MakeReport(step);
  trace_.Add(step.kind, std::move(step.timeline));
  return report;
}

Status StepLoop::CommitStep(Checkpointer::Force force) {
  const Watchdog::Scope scope(
      parts_.watchdog,
      Doing(fmt::format("the commit of step {} waits for the drive", driver_->applied().steps)));
  // Of the state, which may be one step behind what was computed.
  const RunRecord record =
      MakeRunRecord(*parts_.config, parts_.dataset->fingerprint(), driver_->applied());
  return checkpointer_->AfterStep(record, force);
}

Result<SessionSummary> StepLoop::Run(const std::atomic<bool>& stop) {
  const Watchdog::Scope scope(parts_.watchdog, Doing("what is between two steps"));
  while (driver_->steps_done() < parts_.config->train.steps) {
    STRATA_ASSIGN_OR_RETURN(const bool stops, OnAnyRank(*parts_.communicator, stop.load()));
    if (stops) break;
    Result<StepReport> report = RunStep();
    if (!report.ok()) {
      return checkpointer_->AfterFailure(
          report.status().With(fmt::format("step {}", driver_->steps_done() + 1)));
    }
    step_seconds_.push_back(report->step_s);
    seconds_ += report->seconds();
    // Before the commit: a kill in between leaves a line too many, which a resume takes away.
    if (is_first()) STRATA_RETURN_IF_ERROR(parts_.directory->AppendMetrics(ToJson(*report)));
    auto begin = tiering::Clock::now();
    STRATA_RETURN_IF_ERROR(CommitStep(Checkpointer::Force::kNo));
    commit_s_ = std::chrono::duration<double>(tiering::Clock::now() - begin).count();
    parts_.observer->OnStep(*report);
  }
  STRATA_RETURN_IF_ERROR(FinishRun());
  return Summarise(driver_->steps_done() < parts_.config->train.steps);
}

// Nothing of what was computed may be missing from the state that a run leaves.
Status StepLoop::FinishRun() {
  auto begin = tiering::Clock::now();
  Status flushed = driver_->Flush();
  if (!flushed.ok()) return checkpointer_->AfterFailure(flushed);
  bool is_complete = driver_->steps_done() == parts_.config->train.steps;
  STRATA_RETURN_IF_ERROR(
      CommitStep(is_complete ? Checkpointer::Force::kNo : Checkpointer::Force::kYes));
  seconds_ += std::chrono::duration<double>(tiering::Clock::now() - begin).count();
  if (trace_.empty() || !is_first()) return OkStatus();
  return parts_.directory->WriteTrace(trace_.ToJson(*parts_.run));
}

Result<SessionSummary> StepLoop::Summarise(bool stopped) {
  SessionSummary summary;
  summary.peak_rss_bytes = PeakRssBytes();
  summary.steps_done = driver_->steps_done();
  summary.counts = driver_->counts();
  summary.stopped = stopped;
  summary.seconds = seconds_;
  summary.median_step_s = Median(step_seconds_);
  tiering::StoreCounters counters = parts_.state->store->counters();
  summary.nvme_bytes_read = counters.bytes_read;
  summary.nvme_bytes_written = counters.bytes_written;
  summary.traffic = parts_.communicator->traffic();
  driver_->ReleaseMemory();     // its cached copies make room for the hash's staging
  if (stopped) return summary;  // who stops a run does not want to wait for its hash
  parts_.state->access->SetStaging(parts_.state->access->FreeHostMemory());
  const Watchdog::Scope scope(parts_.watchdog, Doing("hashing the final state"));
  STRATA_ASSIGN_OR_RETURN(StateHashes hashes,
                          HashState(parts_.run->layout, parts_.communicator->rank(),
                                    *parts_.state->access, [this](uint64_t done, uint64_t total) {
                                      parts_.observer->OnProgress("hashing the final state", done,
                                                                  total);
                                    }));
  STRATA_ASSIGN_OR_RETURN(hashes, SumOverRanks(*parts_.communicator, hashes));
  summary.weights_hash = hashes.weights;
  summary.state_hash = hashes.all;
  return summary;
}

}  // namespace strata::engine
