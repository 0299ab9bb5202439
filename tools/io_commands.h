// The subcommands of strata io. Each returns the program's exit code.
#pragma once

#include <string>
#include <vector>

namespace strata::tools {

struct IoCheckArguments {
  std::vector<std::string> paths;
  bool json = false;
};
// kExitFailed when something found is a problem.
int IoCheck(const IoCheckArguments& arguments);

}  // namespace strata::tools
