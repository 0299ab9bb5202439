// Runs the strata program as a user's shell would.
#pragma once

#include <signal.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace strata::tools {

struct Outcome {
  int exit_code = -1;  // -1: ended by a signal
  std::string out;     // stdout
  std::string err;     // stderr
  bool was_killed = false;
  double seconds = 0;
  uint64_t peak_rss_bytes = 0;  // as the kernel counted it
};

// One signal to the program, if it still runs by then.
struct Disturbance {
  int signal_number = SIGKILL;
  std::string when_out_contains = {};  // empty: from the start
  std::chrono::microseconds after = {};
};

Outcome RunStrata(const std::vector<std::string>& arguments,
                  const std::optional<Disturbance>& disturbance = {});

// A file with a tiny run that trains in `directory` for `steps` steps on nvme.
std::string WriteTinyConfig(const std::string& directory, int steps);

// The value of "key": in the last JSON line of `out`, as text.
std::string JsonValue(const std::string& out, const std::string& key);

}  // namespace strata::tools
