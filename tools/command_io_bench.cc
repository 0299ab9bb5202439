#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aio/bench/bench_memory.h"
#include "aio/bench/disk_meter.h"
#include "aio/bench/phase.h"
#include "aio/bench/target.h"
#include "tools/commands.h"
#include "tools/io_bench_text.h"
#include "tools/io_commands.h"
#include "tools/print.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"
#include "tools/terminal.h"

namespace strata::tools {
namespace {

using aio::Mix;

bool Stop() { return StopRequested(); }

Status CheckDevice(const std::string& device) {
  if (device == "cpu") return OkStatus();
  return Unimplemented(fmt::format(
      "--device {}: this build measures from and to host memory only; take --device cpu", device));
}

bool NamesAPhase(const IoBenchArguments& arguments) {
  return arguments.read || arguments.write || arguments.mixed;
}

std::vector<Mix> PhasesOf(const IoBenchArguments& arguments) {
  std::vector<Mix> phases;
  bool all = !NamesAPhase(arguments);
  if (arguments.read || all) phases.push_back({.reads = 1, .writes = 0});
  if (arguments.write || all) phases.push_back({.reads = 0, .writes = 1});
  if (arguments.mixed) phases.push_back({arguments.mixed->reads, arguments.mixed->writes});
  if (all) phases.push_back({.reads = 50, .writes = 50});
  return phases;
}

aio::AioSetting SettingOf(const IoBenchArguments& arguments) {
  return {.backend = arguments.engine.value_or(aio::IoBackend::kIoUring),
          .block_size_bytes = arguments.block_size_bytes,
          .queue_depth = arguments.queue_depth,
          .thread_count = arguments.thread_count,
          .sqpoll = arguments.sqpoll};
}

aio::TargetOptions TargetOptionsOf(const IoBenchArguments& arguments) {
  using aio::ExistingData, aio::StripeShares;
  return {.paths = arguments.paths,
          .size_bytes = arguments.size_bytes,
          .existing = arguments.destroy_data ? ExistingData::kDestroy : ExistingData::kKeep,
          .shares = arguments.equal_stripes ? StripeShares::kEqual : StripeShares::kMeasured,
          .stripe_bytes = std::max(aio::TargetOptions().stripe_bytes, arguments.block_size_bytes)};
}

class Bench {
 public:
  explicit Bench(const IoBenchArguments& arguments)
      : arguments_(arguments),
        setting_(SettingOf(arguments)),
        progress_(STDERR_FILENO, DetectTerminal(STDERR_FILENO), 1) {}

  // kCancelled when nothing was measured before it was interrupted.
  Result<BenchReport> Run() {
    STRATA_RETURN_IF_ERROR(CheckDevice(arguments_.device));
    STRATA_RETURN_IF_ERROR(MakeEngine());
    STRATA_ASSIGN_OR_RETURN(
        target_, aio::BenchTarget::Create(TargetOptionsOf(arguments_), ShowBytes(), Stop));
    STRATA_RETURN_IF_ERROR(LeaveOutWrites());
    Describe();
    for (const Mix& mix : phases_) {
      STRATA_RETURN_IF_ERROR(RunPhase(mix));
      if (report_.partial) break;
    }
    return std::move(report_);
  }

 private:
  // Before anything is written, so that a setting that cannot be fails at once.
  Status MakeEngine() {
    STRATA_ASSIGN_OR_RETURN(memory_, aio::MakeBenchMemory(aio::WorkloadMemoryBytes(setting_)));
    aio::IoEngineOptions options = aio::EngineOptionsOf(setting_, memory_->bytes());
    options.backend = arguments_.engine;
    options.iopoll = arguments_.iopoll;
    options.registered_files = arguments_.registered_files;
    STRATA_ASSIGN_OR_RETURN(engine_, aio::IoEngine::Create(options));
    return OkStatus();
  }

  // What was there before is read; writing to it is for those who ask for it.
  Status LeaveOutWrites() {
    phases_ = PhasesOf(arguments_);
    Status writable = target_->CheckWritable();
    if (writable.ok()) return OkStatus();
    if (arguments_.verify) return writable.With("--verify");
    if (NamesAPhase(arguments_)) return phases_ == std::vector<Mix>{Mix{}} ? OkStatus() : writable;
    phases_ = {Mix{}};
    report_.notes.push_back("reads only: " + writable.message());
    return OkStatus();
  }

  void Describe() {
    report_.engine = aio::IoBackendName(engine_->backend());
    report_.block_size_bytes = setting_.block_size_bytes;
    report_.queue_depth = setting_.queue_depth;
    report_.thread_count = setting_.thread_count;
    report_.sqpoll = arguments_.sqpoll;
    report_.iopoll = arguments_.iopoll;
    report_.registered_files = arguments_.registered_files;
    report_.repeats_data = arguments_.repeat_data;
    report_.memory_bytes = memory_->bytes().size();
    report_.huge_bytes = aio::HugePageBytes(memory_->bytes());
    report_.size_bytes = target_->size_bytes();
    report_.paths.assign(target_->paths().begin(), target_->paths().end());
    for (const std::string& note : target_->notes()) report_.notes.push_back(note);
    for (const std::string& note : engine_->notes())
      report_.notes.push_back(report_.engine + ": " + note);
  }

  Status RunPhase(const Mix& mix) {
    aio::PhaseOptions options = {
        .mix = mix,
        .order = arguments_.random ? aio::AccessOrder::kRandom : aio::AccessOrder::kSequential,
        .duration = aio::Seconds(arguments_.seconds),
        .runs = arguments_.runs,
        .check = arguments_.verify ? aio::DataCheck::kOn : aio::DataCheck::kOff,
        .written = arguments_.repeat_data ? aio::WrittenData::kRepeated : aio::WrittenData::kUnique,
        .progress = [this, &mix](const aio::PhaseProgress& now) { ShowPhase(mix, now); },
        .check_progress = ShowBytes(),
        .stop = Stop};
    STRATA_ASSIGN_OR_RETURN(aio::PhaseResult result,
                            aio::RunPhase(*target_, *engine_, setting_, memory_->bytes(), options));
    report_.partial = result.stopped;
    if (!result.runs.empty()) report_.phases.push_back(std::move(result));
    return OkStatus();
  }

  aio::BytesProgress ShowBytes() {
    return [this](std::string_view what, uint64_t done, uint64_t total) {
      progress_.Work(std::string(what), done, total);
    };
  }

  void ShowPhase(const Mix& mix, const aio::PhaseProgress& now) {
    progress_.Now(fmt::format("{}, run {} of {}", aio::DescribeMix(mix), now.run, arguments_.runs),
                  fmt::format("{:6.2f} GB/s  {:.0f} s left{}", now.now.bytes_per_s / 1e9,
                              now.left.count(), now.now.warming_up ? "  (warming up)" : ""));
  }

  const IoBenchArguments& arguments_;
  const aio::AioSetting setting_;
  Progress progress_;
  std::optional<aio::HugeMemory> memory_;
  std::unique_ptr<aio::IoEngine> engine_;  // gone before its memory
  std::unique_ptr<aio::BenchTarget> target_;
  std::vector<Mix> phases_;
  BenchReport report_;
};

int Interrupted() {
  std::fputs("interrupted before anything was measured\n", stderr);
  return kExitInterrupted;
}

}  // namespace

int IoBench(const IoBenchArguments& arguments) {
  CatchStopSignals();
  auto bench = std::make_unique<Bench>(arguments);
  Result<BenchReport> report = bench->Run();
  bench.reset();  // ends its open line, and gives the scratch space back
  if (report.status().code() == Code::kCancelled) return Interrupted();
  if (!report.ok()) return Fail(report.status());
  if (report->phases.empty()) return Interrupted();
  PrintText(arguments.json ? BenchToJson(*report) + "\n" : DescribeBench(*report));
  Status printed = CheckOutput();
  if (!printed.ok()) return Fail(printed);
  return report->partial ? kExitInterrupted : kExitOk;
}

}  // namespace strata::tools
