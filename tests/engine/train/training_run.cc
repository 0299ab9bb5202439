#include "tests/engine/train/training_run.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "aio/base/check.h"

namespace strata::engine {
namespace {

constexpr const char* kConfig = R"(
[model]
vocab_size = 300
hidden_size = 64
intermediate_size = 160
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 64

[data]
seq_len = 32

[train]
device = "cpu"
steps = 4
train_batch_size = 4
gradient_accumulation_steps = 2
seed = 7
threads = 1

[optimizer]
lr = 3e-3

[zero_optimization]
stage = 3

[memory]
device = "16MiB"
host = "16MiB"
)";

class Recorder final : public SessionObserver {
 public:
  Recorder(RunOutcome* outcome, uint64_t stop_after, std::function<void(uint64_t)> on_step)
      : outcome_(outcome),
        stop_after_(stop_after),
        on_step_(std::move(on_step)),
        stop_(stop_after == 0) {}

  void OnProgress(const std::string&, uint64_t, uint64_t) override {}
  void OnPlanned(const PlannedRun& run) override { outcome_->planned_with = run.hardware; }
  void OnStarted(uint64_t first_step, const std::string&) override {
    outcome_->first_step = first_step;
  }
  void OnStep(const StepReport& report) override {
    outcome_->losses.push_back(report.loss);
    outcome_->gradient_norms.push_back(report.gradient_norm);
    outcome_->learning_rates.push_back(report.learning_rate);
    outcome_->loss_scales.push_back(report.loss_scale.value_or(0));
    outcome_->skipped.push_back(report.skipped);
    outcome_->nvme_bytes_read.push_back(report.nvme_bytes_read);
    outcome_->nvme_bytes_written.push_back(report.nvme_bytes_written);
    outcome_->checkpoint_bytes_written.push_back(report.checkpoint_bytes_written);
    outcome_->comm_bytes_sent.push_back(report.comm_bytes_sent);
    outcome_->kinds.push_back(report.kind);
    if (on_step_) on_step_(report.step);
    // The flag is looked at before the next step: what is running then is committed.
    if (outcome_->losses.size() >= stop_after_) stop_ = true;
  }
  const std::atomic<bool>& stop() const { return stop_; }

 private:
  RunOutcome* outcome_;
  uint64_t stop_after_;
  std::function<void(uint64_t)> on_step_;
  std::atomic<bool> stop_;
};

}  // namespace

ScratchDirectory::ScratchDirectory() {
  std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/scratch-XXXXXX";
  STRATA_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteText(const std::string& path, uint64_t num_words, uint64_t seed) {
  static const std::vector<std::string> kWords = {"the",  "block", "moves", "from", "drive",
                                                  "to",   "host",  "and",   "back", "again",
                                                  "when", "plan",  "says",  "so",   "exactly"};
  std::mt19937_64 random(seed);
  std::ofstream out(path);
  for (uint64_t i = 0; i < num_words; ++i) {
    out << kWords[random() % kWords.size()] << (i % 12 == 11 ? ".\n" : " ");
  }
}

Result<RunConfig> TinyConfig(const std::string& directory, const std::vector<std::string>& sets) {
  std::string text = directory + "/text.txt";
  if (!std::filesystem::exists(text)) WriteText(text);
  std::filesystem::create_directories(directory + "/nvme");
  std::vector<std::string> all = {"data.path=" + text, "data.cache_dir=" + directory + "/cache",
                                  "train.run_dir=" + directory + "/run"};
  all.insert(all.end(), sets.begin(), sets.end());
  return ParseRunConfig(kConfig, directory + "/tiny.toml", all);
}

std::vector<std::string> OffloadTo(const std::string& weights, const std::string& optimizer,
                                   const std::string& directory) {
  std::vector<std::string> sets;
  for (const auto& [what, tier] :
       {std::pair("offload_param", weights), std::pair("offload_optimizer", optimizer)}) {
    if (tier == "device") continue;
    sets.push_back(
        fmt::format("zero_optimization.{}.device={}", what, tier == "host" ? "cpu" : "nvme"));
    if (tier != "nvme") continue;
    sets.push_back(fmt::format("zero_optimization.{}.nvme_path={}/nvme", what, directory));
  }
  return sets;
}

std::vector<std::string> OffloadTo(const std::string& tier, const std::string& directory) {
  return OffloadTo(tier, tier, directory);
}

std::vector<std::string> TightBudgets(const RunConfig& config) {
  PlannedRun run = OrDie(PrepareRun(config));
  prefetch::Budgets least = OrDie(SmallestRunBudgets(run, {}));
  return {fmt::format("memory.device=\"{}B\"", least.device_bytes),
          fmt::format("memory.host=\"{}B\"", least.host_bytes)};
}

std::vector<std::string> BudgetsForMixedGradients(const std::string& directory,
                                                  const std::vector<std::string>& sets) {
  for (int host_mib = 1; host_mib <= 4; ++host_mib) {
    for (int device_mib = 1; device_mib <= 4; ++device_mib) {
      std::vector<std::string> budgets = {fmt::format("memory.device={}MiB", device_mib),
                                          fmt::format("memory.host={}MiB", host_mib)};
      std::vector<std::string> all = sets;
      all.insert(all.end(), budgets.begin(), budgets.end());
      const Result<PlannedRun> run = PlanRun(OrDie(TinyConfig(directory, all)), {});
      if (!run.ok() || !KeepsGradients(run->program.kind)) continue;
      const auto bytes = PendingBytesByTier(run->pending_homes, run->layout);
      if (bytes.size() > 1 && bytes.contains(tiering::Tier::kNvme)) return budgets;
    }
  }
  STRATA_CHECK(false);  // change the model
  return {};
}

Result<RunOutcome> TrainWith(const RunConfig& config, const SessionOptions& options,
                             uint64_t stop_after, std::function<void(uint64_t step)> on_step) {
  RunOutcome outcome;
  Recorder recorder(&outcome, stop_after, std::move(on_step));
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<TrainingSession> session,
                          TrainingSession::Start(config, options, recorder));
  STRATA_ASSIGN_OR_RETURN(outcome.summary, session->Run(recorder.stop()));
  return outcome;
}

Result<RunOutcome> TrainAndStopAfter(const RunConfig& config, uint64_t steps,
                                     SessionOptions::Start start,
                                     std::function<void(uint64_t step)> on_step) {
  return TrainWith(config, {.start = start}, steps, std::move(on_step));
}

Result<RunOutcome> Train(const RunConfig& config, SessionOptions::Start start) {
  return TrainAndStopAfter(config, UINT64_MAX, start);
}

}  // namespace strata::engine
