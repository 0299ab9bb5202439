// The command line: flags to structs, then commands.h.
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "tools/checkpoint_command_line.h"
#include "tools/commands.h"
#include "tools/io_command_line.h"
#include "tools/launch_command_line.h"
#include "tools/plan_command_line.h"
#include "tools/train_command_line.h"

namespace strata::tools {
namespace {

constexpr const char* kAbout =
    "Strata trains models that do not fit in GPU memory, by keeping every byte of training state\n"
    "where it is cheapest (device, host memory, NVMe) and moving it just in time.";

struct CommandLine {
  TrainArguments train;
  PlanArguments plan;
  ExportArguments export_run;
  DoctorArguments doctor;
  IoCommandLine io;
  LaunchCommandLine launch;
  CheckpointCommandLine checkpoint;
  std::function<int()> chosen;
};

void AddTrain(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("train", "train a model");
  AddTrainOptions(command, &line.train);
  command->callback([&line] { line.chosen = [&line] { return Train(line.train); }; });
}

void AddPlan(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand(
      "plan", "memory, traffic and step time of a run, also on a machine that is not there");
  AddPlanOptions(command, &line.plan);
  command->callback([&line] { line.chosen = [&line] { return Plan(line.plan); }; });
}

void AddExport(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("export", "write a run's weights for Hugging Face");
  command->add_option("run", line.export_run.run, "the run's directory")
      ->required()
      ->type_name("RUN");
  command->add_option("--to", line.export_run.to, "the directory to make")
      ->required()
      ->type_name("DIR");
  command->add_option("--dtype", line.export_run.dtype, "fp32 (the masters) or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  command->add_option("--step", line.export_run.step, "a kept checkpoint instead of the newest");
  command->callback([&line] { line.chosen = [&line] { return Export(line.export_run); }; });
}

void AddDoctor(CLI::App& app, CommandLine& line) {
  CLI::App* command = app.add_subcommand("doctor", "look at this machine as a run would use it");
  CLI::Option* config = command->add_option("config", line.doctor.config, "the run's TOML file")
                            ->type_name("CONFIG.toml");
  command->add_option("--set", line.doctor.sets, kSetHelp)
      ->type_name("A.B=C")
      ->take_all()
      ->needs(config);
  CLI::Option* measure =
      command
          ->add_flag("--measure", line.doctor.measure,
                     "measure the rates that plans are made with; prints a [hardware] section")
          ->needs(config);
  CLI::Option* write = command
                           ->add_option("--write", line.doctor.write,
                                        "measure, and write the section to this file, too")
                           ->type_name("FILE")
                           ->needs(config);
  CLI::Option* ranks =
      command
          ->add_flag("--ranks", line.doctor.ranks,
                     "under a launcher: see that all ranks find each other and have the same "
                     "program and configuration, and measure their collectives, on GPUs where "
                     "the run would use them")
          ->excludes(measure)
          ->excludes(write);
  command
      ->add_option_function<uint32_t>(
          "--timeout",
          [&line](uint32_t seconds) { line.doctor.timeout = std::chrono::seconds(seconds); },
          "of --ranks: give up a rank that does not come, or stands still, after so long "
          "(default: 300; 0: never)")
      ->type_name("SECONDS")
      ->needs(ranks);
  command->add_flag("--json", line.doctor.json, "one JSON object instead of words")
      ->excludes(measure)
      ->excludes(write);
  command->callback([&line] { line.chosen = [&line] { return Doctor(line.doctor); }; });
}

int Main(int argc, char** argv) {
  CLI::App app(kAbout, "strata");
  app.require_subcommand(1);
  CommandLine line;
  line.train.program = argv[0];
  const std::vector<std::string> rank_command = CutRankCommand(argc, argv);
  line.launch.launch.command = rank_command;
  line.launch.agent.command = rank_command;
  AddTrain(app, line);
  AddPlan(app, line);
  AddExport(app, line);
  AddCheckpoint(app, line.checkpoint, line.chosen);
  AddDoctor(app, line);
  AddIo(app, line.io, line.chosen);
  AddLaunch(app, line.launch, line.chosen);
  app.add_subcommand("version", "version, and what this program was built with")->callback([&line] {
    line.chosen = PrintVersion;
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11's own exit codes (105, 109...) mean nothing to a script.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return line.chosen();
}

}  // namespace
}  // namespace strata::tools

int main(int argc, char** argv) { return strata::tools::Main(argc, argv); }
