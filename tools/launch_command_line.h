// The command line of strata launch, and of the hidden commands that it starts.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "tools/launch/job.h"
#include "tools/launch/rank_agent.h"

namespace strata::tools {

struct LaunchCommandLine {
  launch::Arguments launch;
  launch::AgentArguments agent;
  std::string daemon_node;
  std::vector<std::string> daemon_words;
};

void AddLaunch(CLI::App& app, LaunchCommandLine& line, std::function<int()>& chosen);

// What follows "--" is another program's. Cut off before this program's options are read.
std::vector<std::string> CutRankCommand(int& argc, char** argv);

int Launch(const launch::Arguments& arguments);

}  // namespace strata::tools
