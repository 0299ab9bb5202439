// The factor that the loss of an fp16 run is multiplied with, so that its gradients neither vanish
// nor overflow; by DeepSpeed's rule (runtime/fp16/loss_scaler.py): halved after an overflow, once
// `hysteresis` of them are used up, and doubled after each `window` steps in a row without one.
#pragma once

#include <cstdint>

#include "aio/base/status.h"

namespace strata::engine {

struct LossScaleOptions {
  double fixed_scale = 0;  // 0: dynamic
  uint32_t initial_power = 16;
  uint64_t window = 1000;
  uint32_t hysteresis = 2;
  bool consecutive_hysteresis = false;  // any step without an overflow refills the hysteresis
  double min_scale = 1;

  friend bool operator==(const LossScaleOptions&, const LossScaleOptions&) = default;
};

// What a checkpoint keeps.
struct LossScaleState {
  double scale = 1;
  uint64_t steps = 0;               // so far
  uint64_t steps_since_change = 0;  // since the last overflow, in a row without one
  uint32_t hysteresis_left = 0;

  friend bool operator==(const LossScaleState&, const LossScaleState&) = default;
};

class LossScaler {
 public:
  explicit LossScaler(const LossScaleOptions& options);

  double scale() const { return state_.scale; }
  const LossScaleState& state() const { return state_; }
  // A fixed scale stays.
  void Restore(const LossScaleState& state);

  // After each step. kFailedPrecondition: an overflow at the least scale; says what else may help.
  Status Update(bool overflowed);

 private:
  Status AfterOverflow();
  void AfterSuccess();

  LossScaleOptions options_;
  LossScaleState state_;
};

}  // namespace strata::engine
