// The commands that start a job's ranks, word by word.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/launch/job.h"

namespace strata::launch {

// The names of hidden subcommands of strata.
inline constexpr const char* kAgentCommand = "launch-rank";
inline constexpr const char* kDaemonCommand = "launch-daemon";

// The secret that a job's launcher and agents know each other by, new for every start.
inline constexpr const char* kTokenVariable = "STRATA_LAUNCH_TOKEN";
// Where the agents of ranks and relays find the launcher.
inline constexpr const char* kControlVariable = "STRATA_LAUNCH_CONTROL";

// Of a per-node start, set for the daemons of other nodes: what the user gave there.
inline constexpr const char* kDirectoryVariable = "STRATA_LAUNCH_DIRECTORY";
inline constexpr const char* kLogDirVariable = "STRATA_LAUNCH_LOG_DIR";

// How the name of a launcher's own directory begins.
inline constexpr const char* kPrivateDirectory = "strata-launch-";

struct Command {
  std::vector<std::pair<std::string, std::string>> environment;  // besides what is there
  std::vector<std::string> words;
};

// mpirun or srun with the agents of all ranks; or, where the launchers start them, those of this
// node's ranks. `control` is a list of addresses, the first that answers. `cores` of the node that
// has the fewest.
std::vector<Command> StarterCommands(const Job& job, const std::string& control, uint32_t cores);

// As a shell wants it: NAME=value words, quoted where needed.
std::string ToShell(const Command& command);

// The name that node `node_rank` of a per-node start has for mpirun: a word without dots that no
// resolver is asked for.
std::string NodeAlias(uint32_t node_rank);

}  // namespace strata::launch
