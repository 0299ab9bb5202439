#include <fmt/format.h>

#include <cstdio>

#include "tools/build_info.h"
#include "tools/commands.h"

namespace strata::tools {

int PrintVersion() {
  fmt::print("strata {}\n", kVersion);
  fmt::print("built with {} ({})\n", kCompiler, kBuildType);
  for (const std::string& line : BuiltWith()) fmt::print("{}\n", line);
  return kExitOk;
}

int Fail(const Status& status) {
  fmt::print(stderr, "error: {}\n", status.message());
  return kExitFailed;
}

}  // namespace strata::tools
