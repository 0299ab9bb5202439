#include <unistd.h>

#include <algorithm>
#include <vector>

#include "aio/preflight.h"
#include "tools/commands.h"
#include "tools/io_commands.h"
#include "tools/preflight_text.h"
#include "tools/print.h"
#include "tools/terminal.h"

namespace strata::tools {

int IoCheck(const IoCheckArguments& arguments) {
  std::vector<aio::Preflight> preflights;
  for (const std::string& path : arguments.paths) preflights.push_back(aio::CheckPath(path));
  preflights.push_back(aio::CheckMachine());
  PrintText(arguments.json ? PreflightsToJson(preflights) + "\n"
                           : DescribePreflights(preflights, DetectTerminal(STDOUT_FILENO).colour,
                                                WidthOf(STDOUT_FILENO)));
  Status printed = CheckOutput();
  if (!printed.ok()) return Fail(printed);
  bool has_problem = std::any_of(preflights.begin(), preflights.end(),
                                 [](const aio::Preflight& one) { return one.HasProblem(); });
  return has_problem ? kExitFailed : kExitOk;
}

}  // namespace strata::tools
