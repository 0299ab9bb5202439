#include "engine/train/session.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/io_engine.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/comm/communicator.h"
#include "engine/data/dataset.h"
#include "engine/kernels/cpu_kernels.h"
#include "engine/train/checkpointer.h"
#include "engine/train/initial_state.h"
#include "engine/train/measure.h"
#include "engine/train/plan_json.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_record.h"
#include "engine/train/state_access.h"
#include "engine/train/step_runner.h"
#include "prefetch/executor.h"

namespace strata::engine {
namespace {

using tiering::BlockStore;

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

StepRunnerOptions RunnerOptions(const PlannedRun& run) {
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

class Session final : public TrainingSession {
 public:
  Session(const RunConfig& config, SessionObserver& observer)
      : config_(config), observer_(observer) {}

  Status Prepare(const SessionOptions& options) {
    STRATA_ASSIGN_OR_RETURN(RankEnvironment environment, ReadRankEnvironment());
    STRATA_ASSIGN_OR_RETURN(communicator_, MakeCommunicator(environment));
    if (config_.train.world_size != communicator_->world_size()) {
      return Unimplemented(
          fmt::format("[train] world_size = {}, and this job has {} rank(s); this version trains "
                      "on one: set world_size = 1, or look at the job with 'strata plan'",
                      config_.train.world_size, communicator_->world_size()));
    }
    STRATA_RETURN_IF_ERROR(
        CheckCpuSupports(config_.train.precision == Precision::kBf16 ? DType::kBf16 : DType::kF32));
    STRATA_RETURN_IF_ERROR(OpenDataset());
    STRATA_RETURN_IF_ERROR(PlanAndAllocate(options));
    STRATA_RETURN_IF_ERROR(OpenRun(options.start));
    STRATA_RETURN_IF_ERROR(OpenOrCreateState(options.start));
    return MakeExecutor();
  }

  Result<SessionSummary> Run(const std::atomic<bool>& stop) override;
  const PlannedRun& planned() const override { return run_; }

 private:
  Status OpenDataset();
  Status PlanAndAllocate(const SessionOptions& options);
  Status OpenRun(SessionOptions::Start start);
  Status MakeOwnStoreDirectories();
  void ForgetRun();
  Status OpenOrCreateState(SessionOptions::Start start);
  Result<bool> TryOpenState();
  Status CreateState();
  Status MakeExecutor();

  Result<StepReport> RunStep();
  StepReport MakeReport(const prefetch::Timeline& timeline, const tiering::StoreCounters& before);
  Status WriteTrace();
  Result<SessionSummary> Summarise(bool stopped);
  RunRecord Record() const { return MakeRunRecord(config_, dataset_->fingerprint(), step_); }
  tiering::BlockStoreOptions StoreOptions();

  RunConfig config_;
  SessionObserver& observer_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Dataset> dataset_;
  PlannedRun run_;
  std::unique_ptr<tiering::Device> device_;
  std::optional<tiering::Arena> host_;
  std::unique_ptr<aio::IoEngine> engine_;
  std::optional<RunDirectory> directory_;
  bool is_new_directory_ = false;
  std::unique_ptr<BlockStore> store_;
  std::unique_ptr<StateAccess> state_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<prefetch::Executor> executor_;
  uint64_t step_ = 0;  // steps done
  std::vector<double> step_seconds_;
  double seconds_ = 0;
  std::vector<prefetch::Timeline> traced_;
};

Status Session::OpenDataset() {
  tokenizer_ = MakeByteTokenizer();
  if (config_.model.llama.vocab_size < tokenizer_->vocab_size()) {
    return InvalidArgument(fmt::format(
        "[model] vocab_size = {} is smaller than the tokenizer's {} ids; set vocab_size >= {}",
        config_.model.llama.vocab_size, tokenizer_->vocab_size(), tokenizer_->vocab_size()));
  }
  STRATA_ASSIGN_OR_RETURN(dataset_, Dataset::Open({.path = config_.data.path,
                                                   .exclude = {config_.train.run_dir},
                                                   .cache_dir = config_.data.cache_dir,
                                                   .seq_len = config_.data.seq_len,
                                                   .seed = config_.data.seed,
                                                   .on_progress =
                                                       [this](uint64_t done, uint64_t total) {
                                                         observer_.OnProgress("reading text", done,
                                                                              total);
                                                       }},
                                                  *tokenizer_));
  return OkStatus();
}

Status Session::PlanAndAllocate(const SessionOptions& options) {
  STRATA_ASSIGN_OR_RETURN(run_, PrepareRun(config_));
  STRATA_RETURN_IF_ERROR(CompileRun(HardwareOf(config_), run_));
  STRATA_ASSIGN_OR_RETURN(device_, tiering::CreateCpuDevice(config_.memory.device_bytes));
  STRATA_ASSIGN_OR_RETURN(tiering::Arena host,
                          tiering::Arena::Create("host", config_.memory.host_bytes));
  host_.emplace(std::move(host));
  STRATA_ASSIGN_OR_RETURN(engine_,
                          aio::IoEngine::Create(IoEngineOptionsOf(config_, host_->bytes())));
  if (options.measure) {
    STRATA_ASSIGN_OR_RETURN(prefetch::Hardware hardware,
                            MeasureHardware(run_, *device_, *host_, *engine_));
    PlannedRun measured;
    STRATA_ASSIGN_OR_RETURN(measured, PrepareRun(config_));
    STRATA_RETURN_IF_ERROR(CompileRun(hardware, measured));
    run_ = std::move(measured);
  }
  observer_.OnPlanned(run_);
  return OkStatus();
}

Status Session::OpenRun(SessionOptions::Start start) {
  const std::string& path = config_.train.run_dir;
  if (start == SessionOptions::Start::kOverwrite) STRATA_RETURN_IF_ERROR(RemoveRun(config_));
  is_new_directory_ = start != SessionOptions::Start::kResume || !RunDirectory::HoldsRun(path);
  Result<RunDirectory> directory =
      is_new_directory_ ? RunDirectory::Create(path) : RunDirectory::Open(path);
  if (!directory.ok()) return directory.status();
  directory_.emplace(std::move(directory).value());
  return OkStatus();
}

tiering::BlockStoreOptions Session::StoreOptions() {
  return {.directories = run_.store_directories,
          .run_id = directory_->run_id(),
          .rank = communicator_->rank(),
          .num_generations = run_.num_generations,
          .verify = config_.aio.verify,
          .on_initialise = [this](uint64_t done, uint64_t total) {
            observer_.OnProgress("initialising " + run_.store_directories.front(), done, total);
          }};
}

// A run that never had a first state must not stand in the way of the next try. The failure that
// brought us here is the one to report; what cannot be cleaned up is only logged.
void Session::ForgetRun() {
  bool has_store = store_ != nullptr;
  store_.reset();
  Status removed = has_store ? RemoveRun(config_) : directory_->RemoveFiles();
  if (!removed.ok()) Log(Severity::kWarning, "train", "cleaning up: {}", removed.message());
}

// A path inside the run's own directory is ours to make. Any other must be there: a drive that is
// not mounted is an error, not a folder on the root file system.
Status Session::MakeOwnStoreDirectories() {
  for (const std::string& directory : run_.store_directories) {
    if (!directory.starts_with(config_.train.run_dir + "/")) continue;
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return ErrnoStatus(error.value(), "create " + directory);
  }
  return OkStatus();
}

Status Session::OpenOrCreateState(SessionOptions::Start start) {
  STRATA_RETURN_IF_ERROR(MakeOwnStoreDirectories());
  bool opened = false;
  if (start == SessionOptions::Start::kResume && !is_new_directory_) {
    STRATA_ASSIGN_OR_RETURN(opened, TryOpenState());
  }
  if (!opened) {
    Status status = CreateState();
    if (!status.ok() && is_new_directory_) ForgetRun();
    STRATA_RETURN_IF_ERROR(status);
  }
  STRATA_RETURN_IF_ERROR(directory_->WriteConfig(ToToml(config_)));
  STRATA_RETURN_IF_ERROR(directory_->WritePlan(PlanJson(run_.plan)));
  observer_.OnStarted(step_, opened                          ? "checkpoint"
                             : config_.model.weights.empty() ? "random weights"
                                                             : config_.model.weights);
  return OkStatus();
}

// False when the run has no committed state yet.
Result<bool> Session::TryOpenState() {
  Result<std::unique_ptr<BlockStore>> store =
      BlockStore::Open(StoreOptions(), run_.store_blocks, engine_.get());
  if (!store.ok() && store.status().code() == Code::kNotFound) {
    Log(Severity::kInfo, "train", "{} has no committed state yet: starting from the beginning",
        directory_->path());
    return false;
  }
  if (!store.ok()) return store.status();
  store_ = std::move(store).value();
  const std::string& metadata = store_->generations().back().metadata;
  STRATA_ASSIGN_OR_RETURN(RunRecord saved, ParseRunRecord(metadata));
  STRATA_RETURN_IF_ERROR(CheckResumable(saved, Record()));
  step_ = saved.step;
  state_ = std::make_unique<StateAccess>(
      StateAccessParts{&run_.layout, &run_.plan, device_.get(), &*host_, store_.get()});
  state_->SetStaging(state_->FreeHostMemory());
  STRATA_RETURN_IF_ERROR(state_->LoadMemoryHomes());
  STRATA_RETURN_IF_ERROR(directory_->TruncateMetrics(step_));
  return true;
}

Status Session::CreateState() {
  STRATA_ASSIGN_OR_RETURN(store_,
                          BlockStore::Create(StoreOptions(), run_.store_blocks, engine_.get()));
  std::unique_ptr<WeightSource> source =
      MakeRandomWeights(config_.model.init_seed, config_.model.llama.initializer_range);
  if (!config_.model.weights.empty()) {
    STRATA_ASSIGN_OR_RETURN(source,
                            OpenHuggingFaceWeights(config_.model.weights, run_.layout.unit_specs));
  }
  state_ = std::make_unique<StateAccess>(
      StateAccessParts{&run_.layout, &run_.plan, device_.get(), &*host_, store_.get()});
  state_->SetStaging(state_->FreeHostMemory());
  ThreadPool pool(run_.threads);
  STRATA_RETURN_IF_ERROR(WriteInitialState(run_.layout, communicator_->rank(), *source, *state_,
                                           pool, [this](uint64_t done, uint64_t total) {
                                             observer_.OnProgress("writing the first state", done,
                                                                  total);
                                           }));
  STRATA_RETURN_IF_ERROR(directory_->TruncateMetrics(0));
  Checkpointer first(config_.checkpoint, config_.train.steps, run_.commits_every_step, *directory_,
                     *store_, *state_);
  return first.AfterStep(Record(), Checkpointer::Force::kYes);
}

Status Session::MakeExecutor() {
  // From here on the plan's cached copies own the arena; checkpoints use the reserve above it.
  uint64_t reserve = run_.staging_bytes;
  state_->SetStaging(host_->bytes().last(std::min<uint64_t>(reserve, host_->size_bytes())));
  checkpointer_ =
      std::make_unique<Checkpointer>(config_.checkpoint, config_.train.steps,
                                     run_.commits_every_step, *directory_, *store_, *state_);
  runner_ = std::make_unique<StepRunner>(
      StepRunnerParts{&run_.layout, &run_.program, run_.model.get(), run_.kernels.get(),
                      dataset_.get(), communicator_.get()},
      RunnerOptions(run_));
  prefetch::ExecutorParts parts{
      .device = device_.get(),
      .host = &*host_,
      .store = store_.get(),
      .store_blocks = run_.store_block_of,
      .run = [runner = runner_.get()](auto op, const auto& operands, const auto& stream) {
        return runner->Run(op, operands, stream);
      }};
  executor_ = std::make_unique<prefetch::Executor>(run_.plan, std::move(parts),
                                                   prefetch::ExecutorOptions{});
  return executor_->Prime();
}

StepReport Session::MakeReport(const prefetch::Timeline& timeline,
                               const tiering::StoreCounters& before) {
  tiering::StoreCounters after = store_->counters();
  const StepResult& result = runner_->result();
  StepReport report;
  report.step = step_;
  report.total_steps = config_.train.steps;
  report.loss = result.loss;
  report.learning_rate = LearningRate(config_.scheduler, config_.optimizer.lr, step_ - 1);
  report.gradient_norm = result.gradient_norm;
  report.clipped = result.clipped;
  report.tokens = config_.train.train_batch_size * config_.data.seq_len;
  report.step_s = timeline.step_s;
  report.predicted_step_s = run_.predicted.step_s;
  report.bound_s = run_.bound.seconds;
  report.lanes = UseOf(run_.plan, timeline);
  report.nvme_bytes_read = after.bytes_read - before.bytes_read;
  report.nvme_bytes_written = after.bytes_written - before.bytes_written;
  return report;
}

Result<StepReport> Session::RunStep() {
  tiering::StoreCounters before = store_->counters();
  runner_->BeginStep(step_, LearningRate(config_.scheduler, config_.optimizer.lr, step_));
  STRATA_ASSIGN_OR_RETURN(prefetch::Timeline timeline, executor_->RunStep());
  ++step_;
  StepReport report = MakeReport(timeline, before);
  if (traced_.size() < config_.train.trace_steps) traced_.push_back(std::move(timeline));
  return report;
}

Result<SessionSummary> Session::Run(const std::atomic<bool>& stop) {
  while (step_ < config_.train.steps && !stop.load()) {
    Result<StepReport> report = RunStep();
    if (!report.ok()) return report.status().With(fmt::format("step {}", step_ + 1));
    auto begin = tiering::Clock::now();
    STRATA_RETURN_IF_ERROR(checkpointer_->AfterStep(Record(), Checkpointer::Force::kNo));
    report->commit_s = std::chrono::duration<double>(tiering::Clock::now() - begin).count();
    step_seconds_.push_back(report->step_s);
    seconds_ += report->seconds();
    STRATA_RETURN_IF_ERROR(directory_->AppendMetrics(ToJson(*report)));
    observer_.OnStep(*report);
  }
  if (step_ < config_.train.steps) {
    STRATA_RETURN_IF_ERROR(checkpointer_->AfterStep(Record(), Checkpointer::Force::kYes));
  }
  if (!traced_.empty()) STRATA_RETURN_IF_ERROR(WriteTrace());
  return Summarise(step_ < config_.train.steps);
}

Status Session::WriteTrace() {
  return directory_->WriteTrace(prefetch::ChromeTrace(
      run_.plan,
      {{.name = "measured", .steps = traced_}, {.name = "simulated", .steps = {run_.predicted}}}));
}

Result<SessionSummary> Session::Summarise(bool stopped) {
  SessionSummary summary;
  summary.peak_rss_bytes = PeakRssBytes();
  summary.steps_done = step_;
  summary.stopped = stopped;
  summary.seconds = seconds_;
  summary.median_step_s = Median(step_seconds_);
  tiering::StoreCounters counters = store_->counters();
  summary.nvme_bytes_read = counters.bytes_read;
  summary.nvme_bytes_written = counters.bytes_written;
  state_->SetStaging(state_->FreeHostMemory());  // the cached copies are not needed any more
  STRATA_ASSIGN_OR_RETURN(summary.weights_hash,
                          HashState(run_.layout, *state_, HashScope::kWeights));
  STRATA_ASSIGN_OR_RETURN(summary.state_hash, HashState(run_.layout, *state_, HashScope::kAll));
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
