// Which checkpoints there are: of a run, or portable ones in a directory.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/train/run_record.h"

namespace strata::engine {

enum class CheckpointKind : uint8_t {
  kKept,       // of a run: stays until it is pruned, or `keep_last` newer ones are there
  kCommitted,  // of a run: a resume goes on from the newest; goes with the next commit
  kPortable,   // a directory of its own
};
std::string_view CheckpointKindName(CheckpointKind kind);

struct CheckpointInfo {
  CheckpointKind kind = CheckpointKind::kKept;
  uint64_t step = 0;
  std::string path;                                      // of a run's: the run's directory
  uint64_t ranks = 0;                                    // that have parts of it
  uint64_t size_bytes = 0;                               // of all of them together
  std::optional<std::chrono::sys_seconds> made_at = {};  // where a file tells
  RunRecord record = {};
  // Empty: complete. Else what is missing; then size and record may be.
  std::string problem = {};

  bool is_complete() const { return problem.empty(); }
};

// `path`: a run's directory, a portable checkpoint, or a directory of such. The oldest step first.
// Reads manifests, not the state. kNotFound when it is none of these.
Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& path);

}  // namespace strata::engine
