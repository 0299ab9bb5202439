#include "engine/train/session.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/io_engine.h"
#include "engine/comm/communicator.h"
#include "engine/data/dataset.h"
#include "engine/kernels/isa.h"
#include "engine/optimizer/numa_threads.h"
#include "engine/train/checkpointer.h"
#include "engine/train/first_state.h"
#include "engine/train/measure.h"
#include "engine/train/open_run_directory.h"
#include "engine/train/plan_json.h"
#include "engine/train/ranks.h"
#include "engine/train/run_device.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/train/run_state.h"
#include "engine/train/state_access.h"
#include "engine/train/state_hash.h"
#include "engine/train/step_driver.h"
#include "engine/train/step_runner.h"
#include "engine/train/step_trace.h"
#include "engine/train/watchdog.h"
#include "engine/train/watched_observer.h"
#include "tiering/topology.h"

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

class Session final : public TrainingSession {
 public:
  Session(const RunConfig& config, SessionObserver& observer)
      : config_(config), observer_(observer), trace_(config.train.trace_steps) {}
  ~Session() override {
    if (watchdog_ != nullptr) watchdog_->Leave();
    if (shares_memory_) communicator_->UnshareMemory(device_->memory());
  }

  Status Prepare(const SessionOptions& options) {
    STRATA_RETURN_IF_ERROR(FindRank(options));
    STRATA_RETURN_IF_ERROR(Together(ChooseDevice()));
    STRATA_RETURN_IF_ERROR(
        CheckSame(*communicator_, "the kind of device", is_on_gpu() ? "cuda" : "cpu"));
    STRATA_RETURN_IF_ERROR(Together(CheckStart(options.start)));
    STRATA_RETURN_IF_ERROR(Together(OpenDatasets()));
    STRATA_RETURN_IF_ERROR(Together(PlanAndAllocate(options)));
    STRATA_RETURN_IF_ERROR(CheckSame(*communicator_, "the step plan", PlanJson(run_.plan)));
    STRATA_RETURN_IF_ERROR(ShareMemory());
    if (options.measure) STRATA_RETURN_IF_ERROR(MeasureAndPlanAgain());
    observer_.OnPlanned(run_);
    first_state_.emplace(options.from);
    STRATA_RETURN_IF_ERROR(Together(OpenFirstState(options.start)));
    STRATA_RETURN_IF_ERROR(OpenDirectory(options.start));
    STRATA_RETURN_IF_ERROR(OpenOrCreateState(options.start));
    STRATA_RETURN_IF_ERROR(Together(PlaceOptimizerThreads()));
    return Together(MakeDriver());
  }

  Result<SessionSummary> Run(const std::atomic<bool>& stop) override;
  const PlannedRun& planned() const override { return run_; }

 private:
  // Ok where it is on all ranks, so that none waits for one that has failed.
  Status Together(const Status& mine) { return AgreeOn(*communicator_, mine); }
  bool is_on_gpu() const { return config_.train.device.kind == DeviceChoice::Kind::kCuda; }
  bool is_first() const { return communicator_->rank() == 0; }
  Status CheckStart(SessionOptions::Start start) const;
  Status FindRank(const SessionOptions& options);
  Status ChooseDevice();
  Status OpenDataset();
  Status OpenDatasets();
  Status MeasureAndPlanAgain();
  Status ShareMemory();
  Status WriteDirectory() const;
  Status PlanAndAllocate(const SessionOptions& options);
  Status OpenFirstState(SessionOptions::Start start);
  Result<RunState> CreateState(const RunStateParts& parts);
  Status OpenDirectory(SessionOptions::Start start);
  Status OpenOrCreateState(SessionOptions::Start start);
  Status PlaceOptimizerThreads();
  Status MakeDriver();

  Result<SessionSummary> RunSteps(const std::atomic<bool>& stop);
  Status PrepareStep();
  Result<StepReport> RunStep();
  StepReport MakeReport(const DrivenStep& step);
  Status CommitStep(Checkpointer::Force force);
  Status FinishRun();
  Result<SessionSummary> Summarise(bool stopped);
  // Of the state, which may be one step behind what was computed.
  RunRecord Record() const {
    return MakeRunRecord(config_, dataset_->fingerprint(), driver_->applied());
  }

  RunConfig config_;
  std::string config_toml_;  // as given: what is resolved for this machine is not kept for others
  WatchedObserver observer_;
  std::unique_ptr<Watchdog> watchdog_;  // early, as it watches how the rest ends
  std::unique_ptr<Communicator> owned_communicator_;
  Communicator* communicator_ = nullptr;
  bool shares_memory_ = false;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Dataset> dataset_;
  PlannedRun run_;
  std::unique_ptr<tiering::Device> device_;
  std::optional<tiering::Arena> host_;
  std::unique_ptr<tiering::HostRegistration> host_registration_;
  std::unique_ptr<aio::IoEngine> engine_;
  std::optional<FirstStateSource> first_state_;
  std::optional<RunDirectory> directory_;
  bool is_new_directory_ = false;
  RunState state_;
  std::optional<tiering::Topology> topology_;
  NumaThreads numa_;  // of the optimizer's lane
  std::optional<StepRunner> runner_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::optional<StepDriver> driver_;
  double commit_s_ = 0;             // of the last commit
  double change_s_ = 0;             // before this step: flushing, changing plans
  tiering::StoreCounters counted_;  // when the last step was reported
  Traffic sent_;                    // the same of collectives
  std::vector<double> step_seconds_;
  double seconds_ = 0;
  StepTrace trace_;
};

// Before anything that takes time.
Status Session::CheckStart(SessionOptions::Start start) const {
  STRATA_RETURN_IF_ERROR(CheckInstructionSetLimit());
  if (start != SessionOptions::Start::kNew) return OkStatus();
  return RunDirectory::CheckFree(config_.train.run_dir);
}

Status Session::FindRank(const SessionOptions& options) {
  const std::chrono::seconds timeout(config_.train.stall_timeout_s);
  communicator_ = options.communicator;
  if (communicator_ == nullptr) {
    STRATA_ASSIGN_OR_RETURN(RankEnvironment environment, ReadRankEnvironment());
    STRATA_ASSIGN_OR_RETURN(owned_communicator_,
                            MakeCommunicator(environment, {.deadline = timeout}));
    communicator_ = owned_communicator_.get();
  }
  STRATA_ASSIGN_OR_RETURN(watchdog_, Watchdog::Start(timeout, *communicator_, options.on_stall));
  observer_.SetWatchdog(watchdog_.get());
  const uint32_t world = communicator_->world_size();
  if (config_.train.world_size != world) {
    return FailedPrecondition(fmt::format(
        "[train] world_size = {}, and this job has {} rank(s): start as many with 'strata launch "
        "--nproc-per-node N', or look at the job with 'strata plan'",
        config_.train.world_size, world));
  }
  for (const std::string& key : config_.without_effect)
    if (is_first()) Log(Severity::kInfo, "train", "no effect: {}", key);
  config_toml_ = ToToml(config_);
  if (world > 1 && config_.train.threads == 0)
    config_.train.threads = ThreadsPerRank(*communicator_);
  return CheckSame(*communicator_, "the configuration", config_toml_);
}

Status Session::ChooseDevice() {
  const LocalRank local{communicator_->local_rank(), communicator_->local_size()};
  STRATA_ASSIGN_OR_RETURN(ChosenDevice chosen, engine::ChooseDevice(config_.train.device, local));
  config_.train.device = chosen.device;
  if (chosen.passes_over_gpu) Log(Severity::kWarning, "train", "device cpu: {}", chosen.reason);
  if (is_on_gpu() && is_first())
    Log(Severity::kInfo, "train", "device {}: {}", ToText(chosen.device), chosen.reason);
  return OkStatus();
}

// One rank of each machine reads the text, the others what it made of it.
Status Session::OpenDatasets() {
  const bool is_reader = communicator_->local_rank() == 0;
  STRATA_RETURN_IF_ERROR(Together(is_reader ? OpenDataset() : OkStatus()));
  return Together(is_reader ? OkStatus() : OpenDataset());
}

Status Session::OpenDataset() {
  tokenizer_ = MakeByteTokenizer();
  if (config_.model.llama.vocab_size < tokenizer_->vocab_size()) {
    return InvalidArgument(fmt::format(
        "[model] vocab_size = {} is smaller than the tokenizer's {} ids; set vocab_size >= {}",
        config_.model.llama.vocab_size, tokenizer_->vocab_size(), tokenizer_->vocab_size()));
  }
  DatasetOptions options{.path = config_.data.path,
                         .exclude = StoreDirectoriesOf(config_),
                         .cache_dir = config_.data.cache_dir,
                         .seq_len = config_.data.seq_len,
                         .seed = config_.data.seed,
                         .on_progress = [this](uint64_t done, uint64_t total) {
                           observer_.OnProgress("reading text", done, total);
                         }};
  options.exclude.push_back(config_.train.run_dir);
  STRATA_ASSIGN_OR_RETURN(dataset_, Dataset::Open(options, *tokenizer_));
  return OkStatus();
}

Status Session::PlanAndAllocate(const SessionOptions& options) {
  // Memory of terabytes takes its time.
  const Watchdog::Scope scope(watchdog_.get(), MayTakeLong("planning"));
  const auto sharing =
      communicator_->local_size() > 1 ? aio::Sharing::kShared : aio::Sharing::kPrivate;
  STRATA_ASSIGN_OR_RETURN(run_, PlanRun(config_, HardwareOf(config_)));
  STRATA_ASSIGN_OR_RETURN(device_,
                          CreateDevice(config_.train.device, config_.memory.device_bytes, sharing));
  STRATA_ASSIGN_OR_RETURN(tiering::Arena host,
                          tiering::Arena::Create("host", config_.memory.host_bytes));
  host_.emplace(std::move(host));
  STRATA_ASSIGN_OR_RETURN(host_registration_, device_->RegisterHostMemory(host_->bytes()));
  STRATA_ASSIGN_OR_RETURN(engine_,
                          options.create_engine(IoEngineOptionsOf(config_, host_->bytes())));
  watchdog_->WatchEngine(engine_.get());
  return OkStatus();
}

// All ranks follow one plan, so they go by one rank's rates.
Status Session::MeasureAndPlanAgain() {
  const Watchdog::Scope scope(watchdog_.get(), MayTakeLong("measuring and planning"));
  Result<prefetch::Hardware> measured =
      MeasureHardware(run_, {device_.get(), &*host_, engine_.get(), communicator_});
  STRATA_RETURN_IF_ERROR(Together(measured.status()));
  RunConfig rates = config_;
  rates.hardware = *measured;
  STRATA_ASSIGN_OR_RETURN(std::string toml, FromRankZero(*communicator_, ToToml(rates)));
  STRATA_ASSIGN_OR_RETURN(rates, ParseRunConfig(toml, "the rates of rank 0"));
  const prefetch::Hardware& hardware =
      communicator_->world_size() > 1 ? *rates.hardware : *measured;
  STRATA_ASSIGN_OR_RETURN(run_, PlanRun(config_, hardware));
  run_.rates_source = RatesSource::kMeasured;
  return CheckSame(*communicator_, "the step plan", PlanJson(run_.plan));
}

// What ranks of this machine read of each other: what is exchanged is on the device.
Status Session::ShareMemory() {
  if (communicator_->world_size() == 1) return OkStatus();
  if (is_on_gpu()) {
    const int gpu = static_cast<int>(*config_.train.device.gpu);
    STRATA_RETURN_IF_ERROR(communicator_->UseGpu({.device = gpu}));
  }
  STRATA_RETURN_IF_ERROR(communicator_->ShareMemory(device_->memory(), device_->memory_fd()));
  shares_memory_ = true;
  return OkStatus();
}

// Before the run that stands in run_dir is removed: a file that cannot be read must not cost it. A
// run that resumes needs no checkpoint, which may be gone by now.
Status Session::OpenFirstState(SessionOptions::Start start) {
  if (start == SessionOptions::Start::kResume && first_state_->is_checkpoint()) return OkStatus();
  return first_state_->Open(config_, dataset_->fingerprint());
}

Status Session::OpenDirectory(SessionOptions::Start start) {
  STRATA_ASSIGN_OR_RETURN(OpenedRunDirectory opened,
                          OpenRunDirectory(config_, start, *communicator_));
  directory_.emplace(std::move(opened.directory));
  is_new_directory_ = opened.is_new;
  return OkStatus();
}

Status Session::OpenOrCreateState(SessionOptions::Start start) {
  RunStateParts parts{&run_,         &*directory_, device_.get(), &*host_,
                      engine_.get(), &observer_,   communicator_, dataset_->fingerprint()};
  std::optional<RunState> opened;
  if (start == SessionOptions::Start::kResume && !is_new_directory_) {
    STRATA_ASSIGN_OR_RETURN(opened, OpenRunState(parts));
  }
  bool is_resumed = opened.has_value();
  if (!is_resumed) {
    Result<RunState> created = CreateState(parts);
    // A run that never had a first state must not stand in the way of the next try.
    if (!created.ok() && is_new_directory_ && is_first()) {
      Status removed = directory_->RemoveFiles();
      if (!removed.ok()) Log(Severity::kWarning, "train", "cleaning up: {}", removed.message());
    }
    if (!created.ok()) return created.status();
    opened = std::move(created).value();
  }
  first_state_->Close();
  state_ = std::move(*opened);
  STRATA_RETURN_IF_ERROR(Together(is_first() ? WriteDirectory() : OkStatus()));
  observer_.OnStarted(state_.progress.steps,
                      is_resumed ? "committed state" : first_state_->Name(config_));
  return OkStatus();
}

Result<RunState> Session::CreateState(const RunStateParts& parts) {
  STRATA_RETURN_IF_ERROR(Together(first_state_->Open(config_, dataset_->fingerprint())));
  return CreateRunState(parts, first_state_->state());
}

Status Session::WriteDirectory() const {
  STRATA_RETURN_IF_ERROR(directory_->WriteConfig(config_toml_));
  STRATA_RETURN_IF_ERROR(directory_->WritePlan(PlanJson(run_.plan)));
  return directory_->TruncateMetrics(state_.progress.steps);
}

Status Session::PlaceOptimizerThreads() {
  // On the device they belong to its lane, which has work of other kinds.
  if (run_.layout.options.optimizer_home == tiering::Tier::kDevice) return OkStatus();
  // Several ranks share a machine's nodes; who starts them says which cores each has.
  if (communicator_->local_size() > 1) return OkStatus();
  STRATA_ASSIGN_OR_RETURN(tiering::Topology topology, tiering::Topology::Detect());
  topology_.emplace(std::move(topology));
  numa_ = PlaceOnNodes(*topology_, host_->bytes(), run_.threads,
                       [this](auto memory) { return topology_->NodeOfMemory(memory); });
  Log(Severity::kInfo, "train", "{}", numa_.description);
  return OkStatus();
}

Status Session::MakeDriver() {
  checkpointer_ =
      std::make_unique<Checkpointer>(config_, run_.commits_every_step, state_.progress.steps,
                                     *directory_, *state_.store, *state_.behind, *communicator_);
  STRATA_RETURN_IF_ERROR(checkpointer_->Reconcile());
  // From here on the plan's cached copies own the arena; checkpoints use the reserve above it.
  state_.access->SetStaging(host_->bytes().last(run_.staging_bytes));
  STRATA_ASSIGN_OR_RETURN(
      runner_,
      StepRunner::Create({&run_.layout, run_.model.get(), run_.kernels.get(), dataset_.get(),
                          communicator_, state_.behind.get(), &numa_, run_.device_adam.get()},
                         RunnerOptionsOf(run_)));
  driver_.emplace(StepDriverParts{&run_, &*runner_, device_.get(), &*host_, state_.store.get(),
                                  watchdog_.get()},
                  state_.progress);
  STRATA_RETURN_IF_ERROR(driver_->Prepare());
  counted_ = state_.store->counters();
  sent_ = Sum(communicator_->traffic());
  return OkStatus();
}

StepReport Session::MakeReport(const DrivenStep& step) {
  tiering::StoreCounters before = std::exchange(counted_, state_.store->counters());
  StepView planned = StepOf(run_, step.kind);
  StepReport report;
  report.step = driver_->steps_done();
  report.total_steps = config_.train.steps;
  report.loss = step.result.loss;
  report.learning_rate = step.learning_rate;
  report.gradient_norm = step.result.gradient_norm;
  report.clipped = step.result.clipped;
  report.kind = step.kind;
  report.rolled_back = step.rolled_back;
  report.skipped = step.skipped;
  if (config_.train.precision == Precision::kFp16) report.loss_scale = step.loss_scale;
  report.tokens = config_.train.train_batch_size * config_.data.seq_len;
  report.step_s = step.timeline.step_s;
  report.commit_s = commit_s_;
  report.checkpoint_wait_s = state_.behind->TakeWaitedSeconds();
  report.checkpoint_bytes_written = counted_.pending_bytes_written - before.pending_bytes_written;
  report.change_s = change_s_;
  report.predicted_step_s = planned.predicted.step_s;
  report.bound_s = planned.bound.seconds;
  report.lanes = UseOf(planned.plan, step.timeline);
  report.nvme_bytes_read = counted_.bytes_read - before.bytes_read;
  report.nvme_bytes_written = counted_.bytes_written - before.bytes_written;
  const Traffic sent_before = std::exchange(sent_, Sum(communicator_->traffic()));
  report.comm_bytes_sent = sent_.bytes_sent - sent_before.bytes_sent;
  report.comm_bytes_received = sent_.bytes_received - sent_before.bytes_received;
  return report;
}

// What a step must find done: it may need the gradients of the one before applied, and a commit
// that it can go back to.
Status Session::PrepareStep() {
  auto begin = tiering::Clock::now();
  if (driver_->NeedsFlush()) {
    STRATA_RETURN_IF_ERROR(driver_->Flush());
    STRATA_RETURN_IF_ERROR(CommitStep(Checkpointer::Force::kNo));
  }
  STRATA_RETURN_IF_ERROR(driver_->Prepare());
  change_s_ = std::chrono::duration<double>(tiering::Clock::now() - begin).count();
  return OkStatus();
}

Result<StepReport> Session::RunStep() {
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

Status Session::CommitStep(Checkpointer::Force force) {
  const Watchdog::Scope scope(
      watchdog_.get(),
      Doing(fmt::format("the commit of step {} waits for the drive", driver_->applied().steps)));
  return checkpointer_->AfterStep(Record(), force);
}

Result<SessionSummary> Session::Run(const std::atomic<bool>& stop) {
  Result<SessionSummary> summary = RunSteps(stop);
  // The other ranks must not wait for this one.
  if (!summary.ok()) communicator_->Abort(summary.status());
  return summary;
}

Result<SessionSummary> Session::RunSteps(const std::atomic<bool>& stop) {
  const Watchdog::Scope scope(watchdog_.get(), Doing("what is between two steps"));
  while (driver_->steps_done() < config_.train.steps) {
    STRATA_ASSIGN_OR_RETURN(const bool stops, OnAnyRank(*communicator_, stop.load()));
    if (stops) break;
    Result<StepReport> report = RunStep();
    if (!report.ok()) {
      return checkpointer_->AfterFailure(
          report.status().With(fmt::format("step {}", driver_->steps_done() + 1)));
    }
    step_seconds_.push_back(report->step_s);
    seconds_ += report->seconds();
    // Before the commit: a kill in between leaves a line too many, which a resume takes away.
    if (is_first()) STRATA_RETURN_IF_ERROR(directory_->AppendMetrics(ToJson(*report)));
    auto begin = tiering::Clock::now();
    STRATA_RETURN_IF_ERROR(CommitStep(Checkpointer::Force::kNo));
    commit_s_ = std::chrono::duration<double>(tiering::Clock::now() - begin).count();
    observer_.OnStep(*report);
  }
  STRATA_RETURN_IF_ERROR(FinishRun());
  return Summarise(driver_->steps_done() < config_.train.steps);
}

// Nothing of what was computed may be missing from the state that a run leaves.
Status Session::FinishRun() {
  auto begin = tiering::Clock::now();
  Status flushed = driver_->Flush();
  if (!flushed.ok()) return checkpointer_->AfterFailure(flushed);
  bool is_complete = driver_->steps_done() == config_.train.steps;
  STRATA_RETURN_IF_ERROR(
      CommitStep(is_complete ? Checkpointer::Force::kNo : Checkpointer::Force::kYes));
  seconds_ += std::chrono::duration<double>(tiering::Clock::now() - begin).count();
  if (trace_.empty() || !is_first()) return OkStatus();
  return directory_->WriteTrace(trace_.ToJson(run_));
}

Result<SessionSummary> Session::Summarise(bool stopped) {
  SessionSummary summary;
  summary.peak_rss_bytes = PeakRssBytes();
  summary.steps_done = driver_->steps_done();
  summary.counts = driver_->counts();
  summary.stopped = stopped;
  summary.seconds = seconds_;
  summary.median_step_s = Median(step_seconds_);
  tiering::StoreCounters counters = state_.store->counters();
  summary.nvme_bytes_read = counters.bytes_read;
  summary.nvme_bytes_written = counters.bytes_written;
  summary.traffic = communicator_->traffic();
  driver_->ReleaseMemory();     // its cached copies make room for the hash's staging
  if (stopped) return summary;  // who stops a run does not want to wait for its hash
  state_.access->SetStaging(state_.access->FreeHostMemory());
  const Watchdog::Scope scope(watchdog_.get(), Doing("hashing the final state"));
  STRATA_ASSIGN_OR_RETURN(StateHashes hashes,
                          HashState(run_.layout, communicator_->rank(), *state_.access,
                                    [this](uint64_t done, uint64_t total) {
                                      observer_.OnProgress("hashing the final state", done, total);
                                    }));
  STRATA_ASSIGN_OR_RETURN(hashes, SumOverRanks(*communicator_, hashes));
  summary.weights_hash = hashes.weights;
  summary.state_hash = hashes.all;
  return summary;
}

}  // namespace

Result<std::unique_ptr<TrainingSession>> TrainingSession::Start(const RunConfig& config,
                                                                const SessionOptions& options,
                                                                SessionObserver& observer) {
  auto session = std::make_unique<Session>(config, observer);
  STRATA_RETURN_IF_ERROR(session->Prepare(options));
  return std::unique_ptr<TrainingSession>(std::move(session));
}

}  // namespace strata::engine
