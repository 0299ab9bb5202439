// Small whole runs for tests: a temporary directory, a text, a configuration, and what came out.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "engine/config/run_config.h"
#include "engine/train/session.h"
#include "tests/or_die.h"

namespace strata::engine {

// A directory below the test's temporary one that is gone when this is. Not on tmpfs where that can
// be helped.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Some kilobytes of words, the same every time.
void WriteText(const std::string& path, uint64_t num_words = 4000, uint64_t seed = 1);

// A two-layer Llama with 2 x 2 micro-batches, everything on nvme, `steps` steps, in `directory`.
// Writes directory/text.txt on first use.
Result<RunConfig> TinyConfig(const std::string& directory, const std::vector<std::string>& sets);

// Settings that place weights and optimizer state in tiers: "device", "host" or "nvme".
std::vector<std::string> OffloadTo(const std::string& weights, const std::string& optimizer,
                                   const std::string& directory);
// Both in the same one.
std::vector<std::string> OffloadTo(const std::string& tier, const std::string& directory);

// Settings for the smallest budgets that the run can have: nothing stays that could be evicted.
std::vector<std::string> TightBudgets(const RunConfig& config);

// Settings for budgets under which gradients that are kept are at home partly in memory, partly on
// nvme. Dies if it finds none.
std::vector<std::string> BudgetsForMixedGradients(const std::string& directory,
                                                  const std::vector<std::string>& sets);

struct RunOutcome {
  std::vector<double> losses;
  std::vector<double> gradient_norms;
  std::vector<double> learning_rates;
  std::vector<double> loss_scales;  // 0: not fp16
  std::vector<bool> skipped;
  // By step, with the checkpoint before it.
  std::vector<uint64_t> nvme_bytes_read;
  std::vector<uint64_t> nvme_bytes_written;
  std::vector<uint64_t> checkpoint_bytes_written;
  std::vector<uint64_t> comm_bytes_sent;
  std::vector<StepKind> kinds;
  SessionSummary summary;
  uint64_t first_step = 0;
  prefetch::Hardware planned_with;
};

Result<RunOutcome> Train(const RunConfig& config,
                         SessionOptions::Start start = SessionOptions::Start::kNew);
// Stops after `steps` more steps, as Ctrl-C would.
// `on_step` is told of each step once it is done.
Result<RunOutcome> TrainAndStopAfter(const RunConfig& config, uint64_t steps,
                                     SessionOptions::Start start = SessionOptions::Start::kNew,
                                     std::function<void(uint64_t step)> on_step = {});
// With any options.
Result<RunOutcome> TrainWith(const RunConfig& config, const SessionOptions& options,
                             uint64_t stop_after = UINT64_MAX,
                             std::function<void(uint64_t step)> on_step = {});

}  // namespace strata::engine
