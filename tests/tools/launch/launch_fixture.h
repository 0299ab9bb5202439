// A scratch directory, the program, and small ranks written in shell.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/tools/launch/running.h"

namespace strata::launch {

class LaunchFixture : public testing::Test {
 protected:
  LaunchFixture() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/launch-XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~LaunchFixture() override {
    EXPECT_THAT(LeftOver(), testing::IsEmpty());
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  // strata launch OPTIONS --program /bin/sh -- -c SCRIPT
  static std::vector<std::string> Shell(std::vector<std::string> options,
                                        const std::string& script) {
    options.insert(options.begin(), {STRATA_PROGRAM, "launch"});
    options.insert(options.end(), {"--program", "/bin/sh", "--", "-c", script});
    return options;
  }
  Finished RunShell(const std::vector<std::string>& options, const std::string& script) const {
    return RunProgram(Shell(options, script), directory_);
  }
  static bool HasMpirun() { return std::system("command -v mpirun >/dev/null") == 0; }

  static std::string MpirunPath() {
    FILE* pipe = popen("command -v mpirun", "r");
    char path[4096] = {};
    const bool found = fgets(path, sizeof path, pipe) != nullptr;
    pclose(pipe);
    std::string text = found ? path : "";
    while (text.ends_with('\n')) text.pop_back();
    return text;
  }

  std::string directory_;
};

// Several ranks are started through mpirun. STRATA_REQUIRE=mpi makes its absence a failure.
#define STRATA_NEEDS_MPIRUN()                                                                      \
  do {                                                                                             \
    const char* strata_required = std::getenv("STRATA_REQUIRE");                                   \
    const bool strata_is_required = strata_required != nullptr &&                                  \
                                    std::string(strata_required).find("mpi") != std::string::npos; \
    if (!HasMpirun() && strata_is_required) FAIL() << "no mpirun here";                            \
    if (!HasMpirun()) GTEST_SKIP() << "no mpirun here (Debian: openmpi-bin)";                      \
  } while (false)

}  // namespace strata::launch
