#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/log.h"
#include "aio/base/units.h"
#include "engine/comm/rank_environment.h"
#include "engine/config/run_config.h"
#include "engine/train/session.h"
#include "tools/commands.h"
#include "tools/human.h"
#include "tools/lane_text.h"
#include "tools/plan_text.h"
#include "tools/print.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"
#include "tools/train_command_line.h"

namespace strata::tools {
namespace {

using prefetch::Lane;

StepReport ForPeople(const engine::StepReport& report) {
  constexpr double kGb = 1e9;
  return {.step = report.step,
          .total_steps = report.total_steps,
          .loss = report.loss,
          .learning_rate = report.learning_rate,
          .grad_norm = report.gradient_norm,
          .loss_scale = report.loss_scale,
          .skipped = report.skipped,
          .tokens_per_s = report.tokens_per_s(),
          .seconds_left = static_cast<double>(report.total_steps - report.step) * report.seconds(),
          .read_gb_per_s = report.bytes_per_s(Lane::kNvmeRead) / kGb,
          .write_gb_per_s = report.bytes_per_s(Lane::kNvmeWrite) / kGb,
          .h2d_gb_per_s = report.bytes_per_s(Lane::kH2d) / kGb,
          .d2h_gb_per_s = report.bytes_per_s(Lane::kD2h) / kGb,
          .stall_fraction = report.stall_fraction()};
}

// Shows people what happens.
class Console final : public engine::SessionObserver {
 public:
  explicit Console(uint64_t log_every_steps)
      : progress_(STDOUT_FILENO, DetectTerminal(STDOUT_FILENO), log_every_steps) {}

  void OnProgress(const std::string& what, uint64_t done, uint64_t total) override {
    progress_.Work(what, done, total);
  }
  void OnPlanned(const engine::PlannedRun& run) override { progress_.Say(DescribePlan(run)); }
  void OnStarted(uint64_t first_step, const std::string& where_from) override {
    progress_.Say(fmt::format("starting at step {} from {}", first_step, where_from));
  }
  void OnStep(const engine::StepReport& report) override {
    if (first_loss_ == 0) first_loss_ = report.loss;
    last_loss_ = report.loss;
    last_ = report;
    progress_.Step(ForPeople(report));
  }
  double first_loss() const { return first_loss_; }
  double last_loss() const { return last_loss_; }
  const engine::StepReport& last() const { return last_; }

 private:
  Progress progress_;
  double first_loss_ = 0;
  double last_loss_ = 0;
  engine::StepReport last_;
};

// Of all ranks but the first, who speaks for all.
class Quiet final : public engine::SessionObserver {
 public:
  void OnProgress(const std::string&, uint64_t, uint64_t) override {}
  void OnPlanned(const engine::PlannedRun&) override {}
  void OnStarted(uint64_t, const std::string&) override {}
  void OnStep(const engine::StepReport&) override {}
};

// One JSON object per step, for scripts.
class JsonLines final : public engine::SessionObserver {
 public:
  void OnProgress(const std::string&, uint64_t, uint64_t) override {}
  void OnPlanned(const engine::PlannedRun&) override {}
  void OnStarted(uint64_t, const std::string&) override {}
  void OnStep(const engine::StepReport& report) override { Print("{}\n", ToJson(report)); }
};

std::string SummaryToJson(const engine::SessionSummary& summary, const engine::PlannedRun& run) {
  nlohmann::ordered_json json;
  json["steps_done"] = summary.steps_done;
  json["stopped"] = summary.stopped;
  if (!summary.stopped) {
    json["weights_hash"] = fmt::format("{:016x}", summary.weights_hash);
    json["state_hash"] = fmt::format("{:016x}", summary.state_hash);
  }
  json["seconds"] = summary.seconds;
  json["steps_clipped"] = summary.counts.clipped;
  json["steps_rolled_back"] = summary.counts.rolled_back;
  json["flushes"] = summary.counts.flushed;
  json["median_step_s"] = summary.median_step_s;
  json["predicted_step_s"] = run.predicted.step_s;
  json["bound_s"] = run.bound.seconds;
  json["bound_resource"] = run.bound.resource;
  json["nvme_bytes_read"] = summary.nvme_bytes_read;
  json["nvme_bytes_written"] = summary.nvme_bytes_written;
  json["world_size"] = run.config.train.world_size;
  for (size_t i = 0; i < engine::kNumCollectives; ++i) {
    const engine::Traffic& traffic = summary.traffic[i];
    if (traffic.calls == 0) continue;
    json["collectives"][std::string(CollectiveName(engine::Collective(i)))] = {
        {"calls", traffic.calls},
        {"bytes_sent", traffic.bytes_sent},
        {"bytes_received", traffic.bytes_received}};
  }
  json["peak_rss_bytes"] = summary.peak_rss_bytes;
  json["elements"] = run.layout.num_shard_elements();
  return json.dump();
}

std::string Duration(double seconds) {
  return FormatDuration(std::chrono::duration<double>(seconds));
}

std::string Ratio(double a, double b) { return b > 0 ? fmt::format("{:.2f}", a / b) : "?"; }

// A ratio to what other rates than this machine's predict would say nothing.
std::string AgainstPrediction(double step_s, const engine::PlannedRun& run) {
  if (run.rates_source == engine::RatesSource::kDefaults) {
    return " (with --measure: beside its prediction and its bound)";
  }
  return fmt::format("; {} predicted (x {}), bound {} (x {})", Duration(run.predicted.step_s),
                     Ratio(step_s, run.predicted.step_s), Duration(run.bound.seconds),
                     Ratio(step_s, run.bound.seconds));
}

void PrintSummary(const Console& console, const engine::SessionSummary& summary,
                  const engine::PlannedRun& run) {
  const std::string& run_dir = run.config.train.run_dir;
  Print("\n{}\n", DescribeMemory(run, summary.peak_rss_bytes));
  if (console.last().step > 0) {
    Print("step {}\n{}\n", console.last().step,
          LaneTable(console.last().lanes, console.last().step_s));
  }
  Print("moved   {} read from nvme, {} written to it\n", FormatBytes(summary.nvme_bytes_read),
        FormatBytes(summary.nvme_bytes_written));
  if (run.config.train.world_size > 1) {
    const engine::Traffic traffic = Sum(summary.traffic);
    Print("ranks   {}; the first one sent {} and received {}; numbers above are its own\n",
          run.config.train.world_size, FormatBytes(traffic.bytes_sent),
          FormatBytes(traffic.bytes_received));
  }
  if (summary.median_step_s > 0) {
    Print("step    {} median{}\n", Duration(summary.median_step_s),
          AgainstPrediction(summary.median_step_s, run));
    Print("loss    {:.4f} -> {:.4f} in {}\n", console.first_loss(), console.last_loss(),
          Duration(summary.seconds));
  }
  const engine::StepCounts& counts = summary.counts;
  if (counts.clipped + counts.rolled_back + counts.flushed > 0) {
    Print("clips   {} steps clipped, {} rolled back, kept gradients flushed {} times\n",
          counts.clipped, counts.rolled_back, counts.flushed);
  }
  if (counts.skipped > 0) {
    Print("skipped {} steps whose gradients overflowed fp16; nothing was updated in them\n",
          counts.skipped);
  }
  if (!summary.stopped) {
    Print("hash    weights {:016x}, all state {:016x}\n", summary.weights_hash, summary.state_hash);
  }
  Print("\n{} after {} of {} steps; everything is in {}\n", summary.stopped ? "stopped" : "done",
        summary.steps_done, run.config.train.steps, run_dir);
}

// What goes on with a run, on as many ranks: `ranks` are those that it had.
std::string AgainCommand(const std::string& program, const std::string& run_dir,
                         const engine::RankEnvironment& ranks) {
  const std::string train = fmt::format("train {}/config.toml --resume", run_dir);
  if (ranks.world_size == 1) return fmt::format("{} {}", program, train);
  // On several nodes it takes what only who started them knows.
  const bool is_one_node = ranks.local_size.value_or(ranks.world_size) == ranks.world_size;
  const std::string where =
      is_one_node ? fmt::format("--nproc-per-node {}", ranks.world_size) : "(nodes as before)";
  return fmt::format("{} launch {} -- {}", program, where, train);
}

// Commands that can be pasted: the resolved configuration has every --set in it.
void PrintWhatNext(const std::string& program, const engine::SessionSummary& summary,
                   const engine::PlannedRun& run, const engine::RankEnvironment& ranks) {
  const std::string& run_dir = run.config.train.run_dir;
  const std::string again = AgainCommand(program, run_dir, ranks);
  if (summary.stopped) {
    Print("  go on:        {}\n", again);
  } else {
    Print("  train longer: {} --set train.steps={}\n", again, 2 * run.config.train.steps);
  }
  Print("  use it:       {} export {} --to DIR   (loads in Hugging Face transformers)\n", program,
        run_dir);
  Print("  look inside:  {}/metrics.jsonl\n", run_dir);
  if (run.config.train.trace_steps > 0) {
    Print("                {}/trace.json (open in https://ui.perfetto.dev)\n", run_dir);
  }
}

// A thread may be in the kernel for good, or hold any lock: so nothing is cleaned up, and nothing
// but system calls is used. What was committed is as safe in that as in any other sudden end.
[[noreturn]] void EndProcess(const Status& why) {
  constexpr unsigned kSecondsToTell = 5;
  alarm(kSecondsToTell);  // whoever should read it may hang, too
  const std::string text = fmt::format("error: {}\n", why.message());
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = write(STDERR_FILENO, rest.data(), rest.size());
    if (written <= 0) break;
    rest.remove_prefix(static_cast<size_t>(written));
  }
  _exit(kExitFailed);
}

engine::SessionOptions OptionsOf(const TrainArguments& arguments) {
  using Start = engine::SessionOptions::Start;
  Start start = arguments.resume      ? Start::kResume
                : arguments.overwrite ? Start::kOverwrite
                                      : Start::kNew;
  return {
      .start = start, .from = arguments.from, .measure = arguments.measure, .on_stall = EndProcess};
}

Result<engine::SessionSummary> RunSession(const engine::RunConfig& config,
                                          const TrainArguments& arguments,
                                          engine::SessionObserver& observer,
                                          std::unique_ptr<engine::TrainingSession>& session) {
  STRATA_ASSIGN_OR_RETURN(session,
                          engine::TrainingSession::Start(config, OptionsOf(arguments), observer));
  return session->Run(StopRequested());
}

int TrainQuietly(const engine::RunConfig& config, const TrainArguments& arguments) {
  Quiet quiet;
  std::unique_ptr<engine::TrainingSession> session;
  Result<engine::SessionSummary> summary = RunSession(config, arguments, quiet, session);
  if (!summary.ok()) return Fail(summary.status());
  return summary->stopped ? kExitInterrupted : kExitOk;
}

}  // namespace

int Train(const TrainArguments& arguments) {
  Result<engine::RankEnvironment> ranks = engine::ReadRankEnvironment();
  if (!ranks.ok()) return Fail(ranks.status());
  Result<engine::RunConfig> config = LoadTrainConfig(arguments, ranks->world_size);
  if (!config.ok()) return Fail(config.status());
  // The first ends after the step under way, a second one loses only that step.
  CatchStopSignals();
  if (ranks->rank > 0) return TrainQuietly(*config, arguments);
  auto console = std::make_unique<Console>(config->train.log_every_steps);
  JsonLines json;
  engine::SessionObserver& observer =
      arguments.json ? static_cast<engine::SessionObserver&>(json) : *console;
  std::unique_ptr<engine::TrainingSession> session;
  Result<engine::SessionSummary> summary = RunSession(*config, arguments, observer, session);
  if (!summary.ok()) {
    console.reset();  // ends its open line
    return Fail(summary.status());
  }
  if (arguments.json) {
    Print("{}\n", SummaryToJson(*summary, session->planned()));
  } else {
    PrintSummary(*console, *summary, session->planned());
    PrintWhatNext(arguments.program, *summary, session->planned(), *ranks);
  }
  Status printed = CheckOutput();
  if (arguments.json && !printed.ok()) return Fail(printed);
  return summary->stopped ? kExitInterrupted : kExitOk;
}

}  // namespace strata::tools
