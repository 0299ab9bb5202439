// The flags of strata train, for the program and for who starts it.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/config/run_config.h"
#include "tools/commands.h"

namespace strata::tools {

inline constexpr const char* kSetHelp = "override a key of the configuration, as in train.steps=20";

void AddTrainOptions(CLI::App* command, TrainArguments* arguments);

// `words` as they stand behind "strata": nothing of another command, or where they are wrong, which
// strata train will say.
std::optional<TrainArguments> ParseTrain(const std::vector<std::string>& words);

// With as many ranks as the launcher started; an override on the command line comes after that.
// Fails as LoadRunConfig() does.
Result<engine::RunConfig> LoadTrainConfig(const TrainArguments& arguments, uint32_t world_size);

}  // namespace strata::tools
