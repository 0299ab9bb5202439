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

// Of any number of ranks whose files are to be seen from here. What is read is checked against its
// checksums, and passes through a few pages of memory. In the run's precision the weights are
// exported that the model computed with, in another dtype the masters.
Result<ExportRunSummary> ExportRun(const ExportRunOptions& options);

}  // namespace strata::engine
