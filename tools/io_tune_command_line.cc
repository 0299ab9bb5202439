#include "tools/io_tune_command_line.h"

#include <string>

#include "tools/human.h"

namespace strata::tools {
namespace {

template <typename T>
std::string ErrorOf(const Result<T>& result) {
  return result.ok() ? "" : result.status().message();
}

void AddTarget(CLI::App* command, IoTuneArguments& arguments) {
  command
      ->add_option("--path", arguments.paths,
                   "a directory, file or block device; several are tuned as one striped target")
      ->type_name("PATH")
      ->default_str(".");
  command
      ->add_option_function<std::string>(
          "--size",
          [&arguments](const std::string& text) {
            arguments.size_bytes = ParseBytes(text).value();
          },
          "data in all, over all paths")
      ->check([](const std::string& text) { return ErrorOf(ParseBytes(text)); })
      ->type_name("SIZE")
      ->default_str("2GiB");
  command->add_flag("--destroy-data", arguments.destroy_data,
                    "files and devices named with --path may be overwritten");
}

void AddSearch(CLI::App* command, IoTuneArguments& arguments) {
  command
      ->add_option_function<std::string>(
          "--budget",
          [&arguments](const std::string& text) { arguments.budget = ParseDuration(text).value(); },
          "time for all of it, as in 60s or 5min")
      ->check([](const std::string& text) { return ErrorOf(ParseDuration(text)); })
      ->type_name("TIME")
      ->default_str("60s");
  command->add_flag("--read", arguments.read, "tune for reads");
  command->add_flag("--write", arguments.write, "tune for writes");
  command->add_flag("--mix", arguments.mix, "tune for reads and writes at once");
  command
      ->add_option_function<std::vector<std::string>>(
          "--engines",
          [&arguments](const std::vector<std::string>& names) {
            for (const std::string& name : names)
              arguments.engines.push_back(aio::ParseIoBackend(name).value());
          },
          "which of io_uring, libaio and posix to try; all that work here")
      ->check([](const std::string& text) { return ErrorOf(aio::ParseIoBackend(text)); })
      ->delimiter(',')
      ->type_name("NAME,...");
  command->add_option("--seed", arguments.seed, "of the order of the measurements")
      ->type_name("N")
      ->capture_default_str();
}

void AddOutput(CLI::App* command, IoTuneArguments& arguments) {
  command
      ->add_option("--config", arguments.config,
                   "write the winner to [aio] of this file, and leave the rest as it is")
      ->type_name("FILE.toml");
  command->add_option("--html", arguments.html, "write a page with maps of the bandwidths")
      ->type_name("FILE.html");
  CLI::Option* json = command->add_flag("--json", arguments.json, "print JSON");
  command
      ->add_flag("--deepspeed", arguments.deepspeed,
                 "print the aio section of a ds_config instead of [aio]")
      ->excludes(json);
}

}  // namespace

void AddIoTune(CLI::App& io, IoTuneArguments& arguments, std::function<int()>& chosen) {
  CLI::App* command = io.add_subcommand(
      "tune", "find the block size, queue depth, threads and engine that suit drives");
  AddTarget(command, arguments);
  AddSearch(command, arguments);
  AddOutput(command, arguments);
  command->footer(
      "Without --read, --write or --mix it tunes for what training does: mostly both at once. In "
      "a\n"
      "directory the data is a file without a name, gone when the program is. --deepspeed tries\n"
      "libaio alone, which is what DeepSpeed uses, unless --engines or --config is given.");
  command->callback([&arguments, &chosen] { chosen = [&arguments] { return IoTune(arguments); }; });
}

}  // namespace strata::tools
