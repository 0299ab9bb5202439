#include <cstdlib>
#include <filesystem>

#include "engine/comm/communicator.h"
#include "tools/build_info.h"
#include "tools/commands.h"
#include "tools/launch/launcher.h"
#include "tools/launch/process.h"
#include "tools/launch_command_line.h"
#include "tools/print.h"
#include "tools/run_needs.h"

namespace strata::tools {

namespace {

// Empty: they can be.
std::string WhyNotThroughMpi(const launch::Arguments& arguments) {
  if (!launch::IsOnPath("mpirun")) return "there is no mpirun here";
  if (arguments.program.empty() && !engine::HasTransport())
    return "this strata was built without MPI";
  return {};
}

}  // namespace

int Launch(const launch::Arguments& arguments) {
  std::error_code error;
  const std::filesystem::path strata = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Fail(ErrnoStatus(error.value(), "/proc/self/exe"));
  Result<launch::Job> job = launch::PlanJob(
      arguments, strata.string(),
      [](const char* name) { return static_cast<const char*>(std::getenv(name)); },
      WhyNotThroughMpi(arguments));
  if (!job.ok()) return Fail(job.status());
  if (!arguments.dry_run) return launch::RunJob(*job, arguments, std::string(kVersion));
  if (arguments.json) {
    Print("{}\n", launch::DryRunToJson(*job, NeedsOf));
  } else {
    PrintText(launch::DescribeDryRun(*job, NeedsOf));
  }
  const Status printed = CheckOutput();
  return printed.ok() ? kExitOk : Fail(printed);
}

}  // namespace strata::tools
