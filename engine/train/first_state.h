// What a new run begins with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "aio/base/status.h"
#include "engine/checkpoint/weight_source.h"
#include "engine/config/run_config.h"
#include "engine/train/run_state.h"
#include "engine/train/saved_state.h"

namespace strata::engine {

// Weights, random or of files, or the state of a portable checkpoint. Thread-compatible.
class FirstStateSource {
 public:
  // `from`: the checkpoint; empty: weights, as [model] says.
  explicit FirstStateSource(std::string from) : from_(std::move(from)) {}

  bool is_checkpoint() const { return !from_.empty(); }
  // Once it is open there is nothing to do. A checkpoint must be one that a run with this
  // configuration and this data goes on from exactly: kFailedPrecondition names what differs.
  Status Open(const RunConfig& config, uint64_t data_fingerprint);
  // Of what is open; ends with the next Close().
  FirstState state() const { return {.weights = weights_.get(), .saved = checkpoint_.get()}; }
  void Close();
  // "random weights", or where they are from.
  std::string Name(const RunConfig& config) const;

 private:
  Status OpenCheckpoint(const RunConfig& config, uint64_t data_fingerprint);

  std::string from_;
  std::unique_ptr<WeightSource> weights_;
  std::unique_ptr<SavedState> checkpoint_;
};

}  // namespace strata::engine
