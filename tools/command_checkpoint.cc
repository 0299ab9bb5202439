#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "aio/base/units.h"
#include "engine/train/checkpoint_list.h"
#include "engine/train/checkpoint_prune.h"
#include "engine/train/checkpoint_verify.h"
#include "engine/train/portable_checkpoint.h"
#include "tools/checkpoint_commands.h"
#include "tools/commands.h"
#include "tools/print.h"
#include "tools/progress.h"
#include "tools/table.h"

namespace strata::tools {
namespace {

using engine::CheckpointInfo;
using nlohmann::ordered_json;

// "2026-11-21T06:45:00Z"
std::string Time(const CheckpointInfo& info) {
  if (!info.made_at) return {};
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(*info.made_at)));
}

ordered_json ToJson(const CheckpointInfo& info) {
  ordered_json json;
  json["step"] = info.step;
  json["kind"] = CheckpointKindName(info.kind);
  json["complete"] = info.is_complete();
  if (!info.is_complete()) json["problem"] = info.problem;
  json["path"] = info.path;
  json["ranks"] = info.ranks;
  json["bytes"] = info.size_bytes;
  json["made_at"] = info.made_at ? ordered_json(Time(info)) : ordered_json();
  json["precision"] = info.record.precision;
  json["state_format"] = info.record.state_format;
  json["seq_len"] = info.record.seq_len;
  json["train_batch_size"] = info.record.train_batch_size;
  return json;
}

ordered_json ToJson(const std::vector<CheckpointInfo>& infos) {
  ordered_json json = ordered_json::array();
  for (const CheckpointInfo& info : infos) json.push_back(ToJson(info));
  return json;
}

std::string TableOf(const std::vector<CheckpointInfo>& infos) {
  Table table({{"step", Align::kRight},
               {"kind"},
               {"ranks", Align::kRight},
               {"size", Align::kRight},
               {"made (UTC)"},
               {"complete"},
               {"where"}});
  for (const CheckpointInfo& info : infos) {
    const std::string time = Time(info);
    table.AddRow({std::to_string(info.step), std::string(CheckpointKindName(info.kind)),
                  std::to_string(info.ranks), FormatBytes(info.size_bytes),
                  time.empty() ? "-" : time, info.is_complete() ? "yes" : "NO", info.path});
  }
  std::string text = table.ToString();
  for (const CheckpointInfo& info : infos)
    if (!info.is_complete()) text += fmt::format("step {}: {}\n", info.step, info.problem);
  return text;
}

int Printed() {
  Status printed = CheckOutput();
  return printed.ok() ? kExitOk : Fail(printed);
}

std::string Name(const CheckpointInfo& info) {
  return info.kind == engine::CheckpointKind::kPortable
             ? info.path
             : fmt::format("step {} of {}", info.step, info.path);
}

}  // namespace

int CheckpointList(const CheckpointListArguments& arguments) {
  Result<std::vector<CheckpointInfo>> infos = engine::ListCheckpoints(arguments.path);
  if (!infos.ok()) return Fail(infos.status());
  if (arguments.json)
    Print("{}\n", ordered_json{{"path", arguments.path}, {"checkpoints", ToJson(*infos)}}.dump(2));
  else
    PrintText(infos->empty() ? arguments.path + " has no state yet\n" : TableOf(*infos));
  return Printed();
}

int CheckpointVerify(const CheckpointVerifyArguments& arguments) {
  Progress progress(STDERR_FILENO, DetectTerminal(STDERR_FILENO), 1);
  ordered_json damages = ordered_json::array();
  Result<engine::VerifySummary> summary = engine::VerifyCheckpoints(
      {.path = arguments.path,
       .step = arguments.step,
       .on_damage =
           [&](const CheckpointInfo& info, const Status& what) {
             damages.push_back(
                 {{"step", info.step}, {"path", info.path}, {"what", what.message()}});
             if (!arguments.json) Print("DAMAGED {}: {}\n", Name(info), what.message());
           },
       .on_progress =
           [&](const CheckpointInfo& info, uint64_t done, uint64_t total) {
             progress.Work("verifying " + Name(info), done, total);
           }});
  if (!summary.ok()) return Fail(summary.status().With("checkpoint verify"));
  if (arguments.json) {
    Print("{}\n", ordered_json{{"checkpoints", summary->checkpoints},
                               {"bytes", summary->bytes},
                               {"damages", damages}}
                      .dump(2));
  } else {
    Print("{} checkpoints, {}: {}\n", summary->checkpoints, FormatBytes(summary->bytes),
          summary->damages == 0 ? "all as they were written"
                                : fmt::format("{} damages", summary->damages));
  }
  const int printed = Printed();
  return summary->damages > 0 ? kExitFailed : printed;
}

int CheckpointExport(const CheckpointExportArguments& arguments) {
  Progress progress(STDERR_FILENO, DetectTerminal(STDERR_FILENO), 1);
  Result<engine::ExportCheckpointSummary> summary =
      engine::ExportCheckpoint({.run_dir = arguments.run,
                                .to = arguments.to,
                                .step = arguments.step,
                                .ranks = arguments.ranks,
                                .on_progress = [&](uint64_t done, uint64_t total) {
                                  progress.Work("writing " + arguments.to, done, total);
                                }});
  if (!summary.ok()) return Fail(summary.status().With("checkpoint export " + arguments.run));
  if (arguments.json) {
    Print("{}\n", ordered_json{{"step", summary->step},
                               {"ranks", summary->ranks},
                               {"bytes", summary->size_bytes},
                               {"to", arguments.to}}
                      .dump());
  } else {
    Print("step {} as {} files, {}, in {}\n", summary->step, summary->ranks,
          FormatBytes(summary->size_bytes), arguments.to);
  }
  return Printed();
}

int CheckpointPrune(const CheckpointPruneArguments& arguments) {
  Result<std::vector<CheckpointInfo>> gone =
      engine::PruneCheckpoints({.path = arguments.path,
                                .keep = arguments.keep,
                                .steps = arguments.steps,
                                .dry_run = arguments.dry_run});
  if (!gone.ok()) return Fail(gone.status().With("checkpoint prune"));
  if (arguments.json) {
    Print("{}\n", ordered_json{{"dry_run", arguments.dry_run}, {"pruned", ToJson(*gone)}}.dump(2));
    return Printed();
  }
  for (const CheckpointInfo& info : *gone)
    Print("{} {}, {}\n", arguments.dry_run ? "would remove" : "removed", Name(info),
          FormatBytes(info.size_bytes));
  if (gone->empty()) Print("nothing to remove\n");
  return Printed();
}

}  // namespace strata::tools
