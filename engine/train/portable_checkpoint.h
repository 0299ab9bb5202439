// A training state as a directory that any machine can read, on any file system: a file per rank,
// as many as are wanted, and a manifest (tensor_directory.h, portable_files.h).
//
// Nothing in it depends on where the state was at home, on the ranks that wrote it or on their
// stage; it holds all that a run needs to go on exactly: weights, masters, m, v, step, data
// position, loss scale.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "aio/base/status.h"
#include "engine/config/run_config.h"
#include "engine/train/run_record.h"
#include "engine/train/saved_state.h"

namespace strata::engine {

struct ExportCheckpointOptions {
  std::string run_dir;
  std::string to;  // must not exist, or be empty
  // The checkpoint of this step; none: the newest committed state.
  std::optional<uint64_t> step;
  std::optional<uint32_t> ranks;  // files; none: as many as the run has ranks
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> on_progress = {};
};

struct ExportCheckpointSummary {
  uint64_t step = 0;
  uint32_t ranks = 0;
  uint64_t size_bytes = 0;
};

// Of a run of any number of ranks whose files are to be seen from here, also while it trains. What
// is read is checked. Memory: some tens of MiB, whatever the model. Errors as SavedState::Open()
// and WriteTensorDirectory(); on failure nothing is left behind.
Result<ExportCheckpointSummary> ExportCheckpoint(const ExportCheckpointOptions& options);

struct PortableRecord {
  RunRecord record;
  uint32_t ranks = 0;
  uint64_t size_bytes = 0;
  std::string problem = {};  // a file that is missing or cut off; empty: none is
};
// Reads the manifest alone, and looks for the files. kNotFound when there is none, kDataLoss when
// it is damaged.
Result<PortableRecord> ReadPortableRecord(const std::string& path);

// For a run with this configuration: kFailedPrecondition, naming what differs, when model,
// precision or format are others; kDataLoss, naming file, tensor and offset, when something is
// damaged, as does each read of it. Memory: `num_pages` times 4 MiB.
Result<std::unique_ptr<SavedState>> OpenPortableState(const std::string& path,
                                                      const RunConfig& config, uint32_t num_pages);

}  // namespace strata::engine
