// What the launchers of a per-node start know each other by.
#pragma once

#include <string>

#include "aio/base/status.h"
#include "tools/launch/job.h"

namespace strata::launch {

inline constexpr const char* kSecretVariable = "STRATA_LAUNCH_SECRET";

// In this order: STRATA_LAUNCH_SECRET, `secret_file` if given, ~/.config/strata/launch-secret,
// which is made if it is not there. A file that others may read, or a short secret, is refused.
struct Secret {
  std::string text;
  std::string source;  // for messages
};
Result<Secret> FindSecret(const std::string& secret_file, const Environment& environment);

// What the agents of one job show to its launcher: of `nonce`, which is new for each job, and can
// be told to anybody.
std::string TokenOfJob(const Secret& secret, const std::string& nonce);

}  // namespace strata::launch
