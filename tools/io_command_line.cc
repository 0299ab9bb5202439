#include "tools/io_command_line.h"

#include "tools/io_bench_command_line.h"
#include "tools/io_tune_command_line.h"

namespace strata::tools {
namespace {

void AddCheck(CLI::App& io, IoCheckArguments& arguments, std::function<int()>& chosen) {
  CLI::App* command = io.add_subcommand(
      "check", "look for what would keep a path from fast, safe I/O, and say what to do");
  command
      ->add_option("paths", arguments.paths,
                   "directories, files or block devices; without one, "
                   "only the machine")
      ->type_name("PATH");
  command->add_flag("--json", arguments.json, "print JSON");
  command->footer("Exit code: 0 when nothing is a problem, 1 when something is.");
  command->callback(
      [&arguments, &chosen] { chosen = [&arguments] { return IoCheck(arguments); }; });
}

}  // namespace

void AddIo(CLI::App& app, IoCommandLine& line, std::function<int()>& chosen) {
  CLI::App* io = app.add_subcommand("io", "look at drives and measure them");
  io->require_subcommand(1);
  AddIoBench(*io, line.bench, chosen);
  AddIoTune(*io, line.tune, chosen);
  AddCheck(*io, line.check, chosen);
}

}  // namespace strata::tools
