#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "aio/bench/disk_meter.h"
#include "aio/bench/target.h"
#include "aio/bench/tune.h"
#include "aio/bench/tune_grid.h"
#include "aio/file.h"
#include "engine/config/aio_section.h"
#include "tools/commands.h"
#include "tools/human.h"
#include "tools/io_commands.h"
#include "tools/machine_facts.h"
#include "tools/print.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"
#include "tools/terminal.h"
#include "tools/tune_html.h"
#include "tools/tune_text.h"

namespace strata::tools {
namespace {

using aio::AioSetting;
using aio::IoBackend;
using aio::Seconds;
using aio::Traffic;
using aio::TuneReport;

constexpr uint64_t kMostInFlightBytes = 256_MiB;
constexpr uint64_t kLeastInFlightBytes = 16_MiB;
constexpr Seconds kLongestWait = std::chrono::milliseconds(25);

bool Stop() { return StopRequested(); }

std::vector<Traffic> TrafficsOf(const IoTuneArguments& arguments) {
  std::vector<Traffic> traffics;
  bool all = !arguments.read && !arguments.write && !arguments.mix;
  if (arguments.read || all) traffics.push_back(Traffic::kRead);
  if (arguments.write || all) traffics.push_back(Traffic::kWrite);
  if (arguments.mix || all) traffics.push_back(Traffic::kMix);
  return traffics;
}

std::vector<IoBackend> EnginesOf(const IoTuneArguments& arguments) {
  if (!arguments.engines.empty()) return arguments.engines;
  if (arguments.deepspeed && arguments.config.empty()) return {IoBackend::kLibaio};
  return {aio::kAllIoBackends.begin(), aio::kAllIoBackends.end()};
}

Status CanBeMade(const AioSetting& setting) {
  return aio::IoEngine::Create(aio::EngineOptionsOf(setting, {})).status();
}

// What a measurement costs is thrown away if its result cannot be written in the end.
Status CheckOutputFiles(const IoTuneArguments& arguments) {
  if (!arguments.config.empty())
    STRATA_RETURN_IF_ERROR(engine::CheckAioSectionFile(arguments.config).With("--config"));
  if (arguments.html.empty()) return OkStatus();
  std::string directory = std::filesystem::path(arguments.html).parent_path().string();
  if (access(directory.empty() ? "." : directory.c_str(), W_OK) != 0)
    return ErrnoStatus(errno, "--html: write to " + directory);
  return OkStatus();
}

// One search on one target.
class Tuning {
 public:
  explicit Tuning(const IoTuneArguments& arguments)
      : arguments_(arguments),
        start_(aio::SteadySeconds()),
        traffics_(TrafficsOf(arguments)),
        progress_(std::in_place, STDERR_FILENO, DetectTerminal(STDERR_FILENO), 1) {}

  // kCancelled when it was interrupted before the search.
  Result<TuneReport> Run() {
    STRATA_RETURN_IF_ERROR(FindEngines());
    STRATA_RETURN_IF_ERROR(MakeTarget());
    STRATA_ASSIGN_OR_RETURN(aio::DiskMeter meter, MakeMeter());
    meter_ = &meter;
    STRATA_ASSIGN_OR_RETURN(machine_.in_flight_limit_bytes, InFlightLimit());
    Seconds prepared = aio::SteadySeconds() - start_;
    if (prepared >= arguments_.budget) {
      return InvalidArgument(fmt::format(
          "a budget of {} was used up by {} of preparation: give more time, or less data (--size)",
          FormatDuration(arguments_.budget), FormatDuration(prepared)));
    }
    aio::TuneOptions options = {.candidates = DefaultCandidates(machine_),
                                .traffics = traffics_,
                                .budget = arguments_.budget - prepared,
                                .seed = arguments_.seed};
    return Tune(
               options,
               [this](const AioSetting& setting, Traffic traffic, Seconds for_how_long) {
                 return Measure(setting, traffic, for_how_long);
               },
               [this](const aio::TuneProgress& now) { Show(now); }, Stop)
        .With(fmt::format("after {} of preparation", FormatDuration(prepared)));
  }

  // The line of progress makes room for others.
  void EndProgress() { progress_.reset(); }

  const std::vector<std::string>& notes() const { return notes_; }

  std::vector<std::pair<std::string, std::string>> Facts() const {
    std::vector<std::pair<std::string, std::string>> facts = MachineFacts();
    for (const aio::TargetPath& path : target_->paths())
      facts.emplace_back("path", fmt::format("{} ({}, {})", path.path, TargetKindName(path.kind),
                                             FormatBytes(path.size_bytes)));
    for (const std::string& note : notes_) facts.emplace_back("note", note);
    facts.emplace_back("measured", NowInWords());
    return facts;
  }

 private:
  // Those that this process may use. One that was asked for by name and cannot be had is an error.
  Status FindEngines() {
    machine_.cores = std::max(1u, std::thread::hardware_concurrency());
    Status last;
    for (IoBackend backend : EnginesOf(arguments_)) {
      Status status = CanBeMade({.backend = backend});
      if (!status.ok() && !arguments_.engines.empty()) return status.With("--engines");
      if (status.ok()) {
        machine_.backends.push_back(backend);
      } else {
        notes_.push_back("left out: " + status.message());
        last = status;
      }
    }
    if (machine_.backends.empty()) return last;
    Status sqpoll = CanBeMade({.sqpoll = true});
    machine_.try_sqpoll = sqpoll.ok();
    return OkStatus();
  }

  Status MakeTarget() {
    using aio::ExistingData;
    aio::TargetOptions options = {
        .paths = arguments_.paths,
        .size_bytes = arguments_.size_bytes,
        .existing = arguments_.destroy_data ? ExistingData::kDestroy : ExistingData::kKeep};
    aio::BytesProgress show = [this](std::string_view what, uint64_t done, uint64_t total) {
      progress_->Work(std::string(what), done, total);
    };
    STRATA_ASSIGN_OR_RETURN(target_, aio::BenchTarget::Create(options, show, Stop));
    for (const std::string& note : target_->notes()) notes_.push_back(note);
    return LeaveOutWrites();
  }

  // What was there before is read; writing to it is for those who ask for it.
  Status LeaveOutWrites() {
    Status writable = target_->CheckWritable();
    bool reads_only = traffics_ == std::vector<Traffic>{Traffic::kRead};
    if (writable.ok() || reads_only) return OkStatus();
    if (arguments_.write || arguments_.mix) return writable;
    traffics_ = {Traffic::kRead};
    notes_.push_back("tuned for reads only: " + writable.message());
    return OkStatus();
  }

  // A thirty-second of the machine's memory, and not more than a quarter of the data.
  Result<aio::DiskMeter> MakeMeter() {
    uint64_t memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                            static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    limit_bytes_ = std::min({kMostInFlightBytes, memory_bytes / 32, target_->size_bytes() / 4});
    aio::TuneMachine all = machine_;
    all.in_flight_limit_bytes = limit_bytes_;
    uint64_t most_bytes = 0;
    for (const AioSetting& setting : DefaultCandidates(all))
      most_bytes = std::max(most_bytes, aio::WorkloadMemoryBytes(setting));
    return aio::DiskMeter::Create(*target_, most_bytes);
  }

  // More in flight than the drive moves in a while many times its latency only waits there, and a
  // read that the step needs would wait behind it.
  Result<uint64_t> InFlightLimit() {
    AioSetting setting = {.backend = machine_.backends[0]};
    setting.queue_depth = static_cast<uint32_t>(
        std::clamp<uint64_t>(limit_bytes_ / setting.block_size_bytes, 1, setting.queue_depth));
    STRATA_ASSIGN_OR_RETURN(aio::TuneSample sample,
                            Measure(setting, traffics_.back(), std::chrono::milliseconds(200)));
    uint64_t moved_bytes = static_cast<uint64_t>(sample.bytes_per_s * kLongestWait.count());
    return std::min(limit_bytes_, std::max(kLeastInFlightBytes, moved_bytes));
  }

  Result<aio::TuneSample> Measure(const AioSetting& setting, Traffic traffic,
                                  Seconds for_how_long) {
    aio::WorkloadOptions options = {.mix = aio::MixOf(traffic),
                                    .duration = for_how_long,
                                    .warm_up = for_how_long / 10,
                                    .stop = Stop};
    STRATA_ASSIGN_OR_RETURN(aio::WorkloadResult result, meter_->Measure(setting, options));
    if (result.stopped) return Status(Code::kCancelled, "interrupted");
    if (result.bytes() == 0)
      return Unavailable(fmt::format("nothing was finished in {}", FormatDuration(for_how_long)));
    return aio::TuneSample{.bytes_per_s = result.bytes_per_s(),
                           .cpu_s_per_byte = result.cpu_s_per_byte()};
  }

  void Show(const aio::TuneProgress& now) {
    std::string what =
        now.round == 0 ? "warming up"
                       : fmt::format("tuning, round {}, {} setting{}", now.round,
                                     now.settings_in_round, now.settings_in_round == 1 ? "" : "s");
    progress_->Now(what, fmt::format("{:.0f} s left  {}", (now.budget - now.used).count(),
                                     now.leader ? "ahead: " + DescribeSetting(*now.leader) : ""));
  }

  const IoTuneArguments& arguments_;
  const Seconds start_;
  std::vector<Traffic> traffics_;
  std::optional<Progress> progress_;
  aio::TuneMachine machine_;
  uint64_t limit_bytes_ = 0;
  std::unique_ptr<aio::BenchTarget> target_;
  aio::DiskMeter* meter_ = nullptr;
  std::vector<std::string> notes_;
};

engine::AioSection SectionOf(const AioSetting& setting) {
  return {.backend = setting.backend,
          .block_size_bytes = setting.block_size_bytes,
          .queue_depth = setting.queue_depth,
          .thread_count = setting.thread_count,
          .sqpoll = setting.sqpoll};
}

// One line, whatever the paths are called.
std::string CommentOf(const IoTuneArguments& arguments) {
  std::string comment = fmt::format("by strata io tune, {}:", NowInWords());
  for (const std::string& path : arguments.paths) comment += " " + path;
  for (char& c : comment)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return comment;
}

void PrintReport(const IoTuneArguments& arguments, const TuneReport& report,
                 const std::vector<std::string>& notes) {
  if (arguments.json) return PrintText(TuneReportToJson(report) + "\n");
  PrintText(
      DescribeTuneReport(report, DetectTerminal(STDOUT_FILENO).colour, WidthOf(STDOUT_FILENO)));
  for (const std::string& note : notes) Print("note: {}\n", note);
  if (!report.winner) return;
  const AioSetting& setting = report.candidates[*report.winner].setting;
  PrintText(arguments.deepspeed ? "\n" + DeepSpeedAio(setting) + "\n"
                                : "\n" + AioSectionText(SectionOf(setting), ""));
}

Status WriteFiles(const IoTuneArguments& arguments, const TuneReport& report,
                  const Tuning& tuning) {
  engine::AioSection section = SectionOf(report.candidates[*report.winner].setting);
  std::string comment = CommentOf(arguments);
  if (!arguments.config.empty()) {
    STRATA_RETURN_IF_ERROR(WriteAioSection(arguments.config, section, comment));
    fmt::print(stderr, "wrote [aio] of {}\n", arguments.config);
  }
  if (arguments.html.empty()) return OkStatus();
  TunePage page = {.command = CommandLineOfThisProgram(),
                   .facts = tuning.Facts(),
                   .aio_section = AioSectionText(section, comment)};
  STRATA_RETURN_IF_ERROR(aio::WriteFileAtomically(arguments.html, TuneReportToHtml(report, page)));
  fmt::print(stderr, "wrote {}\n", arguments.html);
  return OkStatus();
}

int Interrupted(const IoTuneArguments& arguments) {
  bool has_files = !arguments.config.empty() || !arguments.html.empty();
  fmt::print(stderr, "interrupted{}\n", has_files ? ": no file was written" : "");
  return kExitInterrupted;
}

}  // namespace

int IoTune(const IoTuneArguments& arguments) {
  CatchStopSignals();
  if (Status files = CheckOutputFiles(arguments); !files.ok()) return Fail(files);
  Tuning tuning(arguments);
  Result<TuneReport> report = tuning.Run();
  tuning.EndProgress();
  if (report.status().code() == Code::kCancelled) return Interrupted(arguments);
  if (!report.ok()) return Fail(report.status());
  PrintReport(arguments, *report, tuning.notes());
  if (Status printed = CheckOutput(); !printed.ok()) return Fail(printed);
  if (report->cancelled) return Interrupted(arguments);
  Status written = WriteFiles(arguments, *report, tuning);
  return written.ok() ? kExitOk : Fail(written);
}

}  // namespace strata::tools
