#include <fmt/format.h>

#include <cstdio>

#include "engine/config/run_config.h"
#include "engine/train/planning.h"
#include "tools/commands.h"
#include "tools/plan_text.h"
#include "tools/print.h"

namespace strata::tools {

int Plan(const PlanArguments& arguments) {
  Result<engine::RunConfig> config = engine::LoadRunConfig(arguments.config, arguments.sets);
  if (!config.ok()) return Fail(config.status());
  Result<engine::PlannedRun> run = engine::PlanRun(*config, engine::HardwareOf(*config));
  if (!run.ok()) return Fail(run.status());
  PrintText(arguments.json ? PlanToJson(*run) + "\n" : DescribePlan(*run));
  Status printed = CheckOutput();
  return printed.ok() ? kExitOk : Fail(printed);
}

}  // namespace strata::tools
