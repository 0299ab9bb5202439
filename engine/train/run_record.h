// What a committed generation says about itself: where the run stood, and what it must agree with
// to go on.
#pragma once

#include <cstdint>
#include <string>

#include "aio/base/status.h"
#include "engine/config/run_config.h"
#include "engine/optimizer/loss_scaler.h"

namespace strata::engine {

struct RunProgress {
  uint64_t steps = 0;         // done
  uint64_t updates = 0;       // of them those that were not skipped
  LossScaleState loss_scale;  // of fp16
};

struct RunRecord {
  uint64_t step = 0;           // progress.steps
  bool is_checkpoint = false;  // kept for checkpoint.keep_last, not only until the next commit
  RunProgress progress = {};
  // What a resumed run must have equal, or its result would not be this run's.
  std::string model_config;  // config.json
  std::string precision;
  std::string state_format = "fp32";  // of the optimizer; that of records that do not say
  std::string parts = "1 1 1";        // of embedding, mlp and head; before there were any
  uint64_t world_size = 1;
  uint64_t stage = 0;  // of several ranks, whose blocks depend on it; of one 0
  uint64_t data_fingerprint = 0;
  uint64_t data_seed = 0;
  uint64_t seq_len = 0;
  uint64_t train_batch_size = 0;
};

RunRecord MakeRunRecord(const RunConfig& config, uint64_t data_fingerprint,
                        const RunProgress& progress);
// Of a run that has not begun.
RunProgress FirstProgress(const RunConfig& config);

std::string ToJson(const RunRecord& record);
Result<RunRecord> ParseRunRecord(const std::string& json);

// Both: kFailedPrecondition naming the first thing that differs, both values, and what to do.
// Whether it is state of this model, in this format.
Status CheckSameState(const RunRecord& saved, const RunRecord& now);
// And whether going on from it is this run. The ranks may be others, at another stage.
Status CheckResumable(const RunRecord& saved, const RunRecord& now);

}  // namespace strata::engine
