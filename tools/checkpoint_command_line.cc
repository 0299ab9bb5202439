#include "tools/checkpoint_command_line.h"

namespace strata::tools {
namespace {

constexpr const char* kPathHelp =
    "a run's directory, a portable checkpoint, or a directory of portable checkpoints";
constexpr const char* kJsonHelp = "one JSON object on stdout";

void AddList(CLI::App& checkpoint, CheckpointListArguments& arguments,
             std::function<int()>& chosen) {
  CLI::App* command = checkpoint.add_subcommand("list", "which there are, and whether complete");
  command->add_option("path", arguments.path, kPathHelp)->required()->type_name("DIR");
  command->add_flag("--json", arguments.json, kJsonHelp);
  command->callback(
      [&arguments, &chosen] { chosen = [&arguments] { return CheckpointList(arguments); }; });
}

void AddVerify(CLI::App& checkpoint, CheckpointVerifyArguments& arguments,
               std::function<int()>& chosen) {
  CLI::App* command = checkpoint.add_subcommand(
      "verify", "read all of them and compare every checksum; names what is damaged");
  command->add_option("path", arguments.path, kPathHelp)->required()->type_name("DIR");
  command->add_option("--step", arguments.step, "only this one");
  command->add_flag("--json", arguments.json, kJsonHelp);
  command->footer("Exit code: 0 when all is as it was written, 1 when anything is not.");
  command->callback(
      [&arguments, &chosen] { chosen = [&arguments] { return CheckpointVerify(arguments); }; });
}

void AddExport(CLI::App& checkpoint, CheckpointExportArguments& arguments,
               std::function<int()>& chosen) {
  CLI::App* command = checkpoint.add_subcommand(
      "export", "write a portable checkpoint, from which 'strata train --from' starts");
  command->add_option("run", arguments.run, "the run's directory")
      ->required()
      ->type_name("RUN_DIR");
  command->add_option("--to", arguments.to, "the directory to make")->required()->type_name("DIR");
  command->add_option("--step", arguments.step, "a kept checkpoint instead of the newest state");
  command->add_option("--ranks", arguments.ranks,
                      "cut it into so many files, instead of one for each rank of the run");
  command->add_flag("--json", arguments.json, kJsonHelp);
  command->callback(
      [&arguments, &chosen] { chosen = [&arguments] { return CheckpointExport(arguments); }; });
}

void AddPrune(CLI::App& checkpoint, CheckpointPruneArguments& arguments,
              std::function<int()>& chosen) {
  CLI::App* command =
      checkpoint.add_subcommand("prune", "remove checkpoints; a run's newest state stays");
  command
      ->add_option("path", arguments.path,
                   "a run's directory, or a directory of portable checkpoints")
      ->required()
      ->type_name("DIR");
  CLI::Option_group* which = command->add_option_group("which");
  which->add_option("--keep", arguments.keep, "all but so many of the newest")->type_name("N");
  which->add_option("--step", arguments.steps, "these; may be given several times")
      ->type_name("STEP")
      ->take_all();
  which->require_option(1);
  command->add_flag("--dry-run", arguments.dry_run, "only say which");
  command->add_flag("--json", arguments.json, kJsonHelp);
  command->callback(
      [&arguments, &chosen] { chosen = [&arguments] { return CheckpointPrune(arguments); }; });
}

}  // namespace

void AddCheckpoint(CLI::App& app, CheckpointCommandLine& line, std::function<int()>& chosen) {
  CLI::App* checkpoint =
      app.add_subcommand("checkpoint", "list, verify, carry away and remove checkpoints");
  checkpoint->require_subcommand(1);
  AddList(*checkpoint, line.list, chosen);
  AddVerify(*checkpoint, line.verify, chosen);
  AddExport(*checkpoint, line.export_to, chosen);
  AddPrune(*checkpoint, line.prune, chosen);
}

}  // namespace strata::tools
