#include <fmt/format.h>

#include <cstdio>

#include "tools/build_info.h"
#include "tools/commands.h"
#include "tools/print.h"

namespace strata::tools {

int PrintVersion() {
  Print("strata {}\n", kVersion);
  Print("built with {} ({})\n", kCompiler, kBuildType);
  for (const std::string& line : BuiltWith()) Print("{}\n", line);
  return kExitOk;
}

int Fail(const Status& status) {
  fmt::print(stderr, "error: {}\n", status.message());
  return kExitFailed;
}

}  // namespace strata::tools
