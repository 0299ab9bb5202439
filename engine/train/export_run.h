// A run's weights as a Hugging Face directory.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"

namespace strata::engine {

struct ExportRunOptions {
  std::string run_dir;
  std::string to;
  std::optional<DType> dtype;  // none: the run's precision
  // The checkpoint of this step; none: the newest committed state.
  std::optional<uint64_t> step;
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> on_progress = {};
};

struct ExportRunSummary {
  uint64_t step = 0;
  uint64_t num_parameters = 0;
};

// Reads block by block, each checked against its checksum, and holds one block at a time; with
// dtype fp32 the masters are exported, else the weights that the model computed with.
Result<ExportRunSummary> ExportRun(const ExportRunOptions& options);

}  // namespace strata::engine
