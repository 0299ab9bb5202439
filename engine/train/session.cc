#include "engine/train/session.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "aio/base/log.h"
#include "aio/io_engine.h"
#include "engine/comm/communicator.h"
#include "engine/data/dataset.h"
#include "engine/kernels/isa.h"
#include "engine/optimizer/numa_threads.h"
#include "engine/train/first_state.h"
#include "engine/train/measure.h"
#include "engine/train/open_run_directory.h"
#include "engine/train/plan_json.h"
#include "engine/train/ranks.h"
#include "engine/train/run_device.h"
#include "engine/train/run_directory.h"
#include "engine/train/run_state.h"
#include "engine/train/step_loop.h"
#include "engine/train/watchdog.h"
#include "engine/train/watched_observer.h"
#include "tiering/arena_near.h"
#include "tiering/topology.h"

namespace strata::engine {
namespace {

class Session final : public TrainingSession {
 public:
  Session(const RunConfig& config, SessionObserver& observer)
      : config_(config), observer_(observer) {}
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
    STRATA_RETURN_IF_ERROR(Together(MakePlan()));
    STRATA_RETURN_IF_ERROR(CheckSame(*communicator_, "the step plan", PlanJson(run_.plan)));
    STRATA_RETURN_IF_ERROR(UseGpu());
    STRATA_RETURN_IF_ERROR(Together(Allocate(options)));
    STRATA_RETURN_IF_ERROR(ShareMemory());
    if (options.measure) STRATA_RETURN_IF_ERROR(MeasureAndPlanAgain());
    observer_.OnPlanned(run_);
    first_state_.emplace(options.from);
    STRATA_RETURN_IF_ERROR(Together(OpenFirstState(options.start)));
    STRATA_RETURN_IF_ERROR(OpenDirectory(options.start));
    STRATA_RETURN_IF_ERROR(OpenOrCreateState(options.start));
    STRATA_RETURN_IF_ERROR(Together(PlaceOptimizerThreads()));
    return Together(MakeLoop());
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
  Status MakePlan();
  Status UseGpu();
  Status Allocate(const SessionOptions& options);
  Status OpenFirstState(SessionOptions::Start start);
  Result<RunState> CreateState(const RunStateParts& parts);
  Status OpenDirectory(SessionOptions::Start start);
  Status OpenOrCreateState(SessionOptions::Start start);
  Status PlaceOptimizerThreads();
  Status MakeLoop();

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
  std::unique_ptr<StepLoop> loop_;
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

Status Session::MakePlan() {
  const Watchdog::Scope scope(watchdog_.get(), MayTakeLong("planning"));
  STRATA_ASSIGN_OR_RETURN(run_, PlanRun(config_, HardwareOf(config_)));
  return OkStatus();
}

// Before the budget is taken of the GPU: what collectives need, which NCCL alone knows, is then no
// longer free, and a budget that leaves too little is refused here and not in a step.
Status Session::UseGpu() {
  if (communicator_->world_size() == 1 || !is_on_gpu()) return OkStatus();
  STRATA_RETURN_IF_ERROR(
      communicator_->UseGpu({.device = static_cast<int>(*config_.train.device.gpu)}));
  if (is_first()) {
    Log(Severity::kInfo, "train",
        "collectives have {} of the GPU beside [memory] device: {} of ours, the rest NCCL's",
        FormatBytes(communicator_->gpu_bytes()), FormatBytes(kGpuStagingBytes));
  }
  return OkStatus();
}

Status Session::Allocate(const SessionOptions& options) {
  // Memory of terabytes takes its time.
  const Watchdog::Scope scope(watchdog_.get(), MayTakeLong("allocating memory"));
  const auto sharing =
      communicator_->local_size() > 1 ? aio::Sharing::kShared : aio::Sharing::kPrivate;
  Result<std::unique_ptr<tiering::Device>> device =
      CreateDevice(config_.train.device, config_.memory.device_bytes, sharing);
  if (!device.ok()) {
    const uint64_t beside = communicator_->gpu_bytes();
    return beside == 0 ? device.status()
                       : device.status().With(fmt::format(
                             "beside {} that collectives have of the GPU", FormatBytes(beside)));
  }
  device_ = *std::move(device);
  STRATA_ASSIGN_OR_RETURN(const tiering::NumaMemory numa, tiering::NumaMemoryOfThisMachine());
  STRATA_ASSIGN_OR_RETURN(
      tiering::ArenaNear host,
      tiering::CreateArenaNear("host", config_.memory.host_bytes, device_->numa_node(), numa));
  if (!host.where.empty()) {
    Log(host.is_elsewhere ? Severity::kWarning : Severity::kInfo, "train",
        "rank {}: host memory is {}", communicator_->rank(), host.where);
  }
  host_.emplace(std::move(host.arena));
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

Status Session::MakeLoop() {
  STRATA_ASSIGN_OR_RETURN(loop_, StepLoop::Create({&config_, &run_, communicator_, watchdog_.get(),
                                                   &observer_, dataset_.get(), &*directory_,
                                                   device_.get(), &*host_, &state_, &numa_}));
  return OkStatus();
}

Result<SessionSummary> Session::Run(const std::atomic<bool>& stop) {
  Result<SessionSummary> summary = loop_->Run(stop);
  // The other ranks must not wait for this one.
  if (!summary.ok()) communicator_->Abort(summary.status());
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
