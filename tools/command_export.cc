#include <fmt/format.h>

#include <cstdio>

#include "engine/train/export_run.h"
#include "tools/commands.h"
#include "tools/print.h"

namespace strata::tools {

int Export(const ExportArguments& arguments) {
  engine::ExportRunOptions options{
      .run_dir = arguments.run, .to = arguments.to, .dtype = {}, .step = arguments.step};
  if (arguments.dtype == "fp32") options.dtype = engine::DType::kF32;
  if (arguments.dtype == "bf16") options.dtype = engine::DType::kBf16;
  Result<engine::ExportRunSummary> summary = engine::ExportRun(options);
  if (!summary.ok()) return Fail(summary.status().With("export " + arguments.run));
  Print("exported step {} ({} parameters) to {}\n", summary->step, summary->num_parameters,
        arguments.to);
  return kExitOk;
}

}  // namespace strata::tools
