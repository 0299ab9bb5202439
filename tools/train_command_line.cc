#include "tools/train_command_line.h"

#include <fmt/format.h>

namespace strata::tools {

void AddTrainOptions(CLI::App* command, TrainArguments* arguments) {
  command->add_option("config", arguments->config, "the run's TOML file")
      ->required()
      ->type_name("CONFIG.toml");
  command->add_option("--set", arguments->sets, kSetHelp)->type_name("A.B=C")->take_all();
  command
      ->add_option(
          "--from", arguments->from,
          "begin with the state of this portable checkpoint (strata checkpoint export), at "
          "its step; with --resume only where there is nothing to resume")
      ->type_name("DIR");
  CLI::Option* resume = command->add_flag("--resume", arguments->resume,
                                          "go on from the newest committed state, if there is one");
  command
      ->add_flag("--overwrite", arguments->overwrite, "remove the run that stands in run_dir first")
      ->excludes(resume);
  command->add_flag("--measure", arguments->measure,
                    "measure this machine's rates first, and plan with them");
  command->add_flag("--json", arguments->json, "one JSON object per step, and one at the end");
}

std::optional<TrainArguments> ParseTrain(const std::vector<std::string>& words) {
  if (words.empty() || words[0] != "train") return std::nullopt;
  CLI::App app;
  TrainArguments arguments;
  AddTrainOptions(&app, &arguments);
  // The library takes them from the back, and throws.
  std::vector<std::string> reversed(words.rbegin(), words.rend() - 1);
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError&) {
    return std::nullopt;
  }
  return arguments;
}

Result<engine::RunConfig> LoadTrainConfig(const TrainArguments& arguments, uint32_t world_size) {
  std::vector<std::string> sets;
  if (world_size > 1) sets.push_back(fmt::format("train.world_size={}", world_size));
  sets.insert(sets.end(), arguments.sets.begin(), arguments.sets.end());
  return engine::LoadRunConfig(arguments.config, sets);
}

}  // namespace strata::tools
