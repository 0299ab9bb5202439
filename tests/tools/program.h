// Runs the strata program as a user's shell would.
#pragma once

#include <chrono>
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
};

// With `signal_after`, sends `signal_number` to it that long after the start, if it still runs.
Outcome RunStrata(const std::vector<std::string>& arguments,
                  std::optional<std::chrono::microseconds> signal_after = {},
                  int signal_number = 9);

// A file with a tiny run that trains in `directory` for `steps` steps on nvme.
std::string WriteTinyConfig(const std::string& directory, int steps);

// The value of "key": in the last JSON line of `out`, as text.
std::string JsonValue(const std::string& out, const std::string& key);

}  // namespace strata::tools
