#include "engine/optimizer/loss_scaler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace strata::engine {
namespace {

constexpr double kFactor = 2;

}  // namespace

LossScaler::LossScaler(const LossScaleOptions& options) : options_(options) {
  bool is_fixed = options.fixed_scale > 0;
  state_.scale =
      is_fixed ? options.fixed_scale : std::ldexp(1.0, static_cast<int>(options.initial_power));
  state_.hysteresis_left = options.hysteresis;
}

void LossScaler::Restore(const LossScaleState& state) {
  state_ = state;
  if (options_.fixed_scale > 0) state_.scale = options_.fixed_scale;
}

Status LossScaler::Update(bool overflowed) {
  ++state_.steps;
  if (overflowed) return AfterOverflow();
  if (options_.fixed_scale == 0) AfterSuccess();
  return OkStatus();
}

Status LossScaler::AfterOverflow() {
  state_.steps_since_change = 0;
  if (options_.fixed_scale > 0) return OkStatus();  // the step is skipped, the scale is the user's
  if (options_.hysteresis > 1 && state_.hysteresis_left > 1) {
    --state_.hysteresis_left;
    return OkStatus();
  }
  if (state_.scale <= options_.min_scale) {
    return FailedPrecondition(fmt::format(
        "gradients overflow fp16 even at the least loss scale, {:g}: lower [optimizer] lr, set "
        "precision = \"bf16\", or allow a smaller [fp16] min_loss_scale",
        options_.min_scale));
  }
  state_.scale = std::max(state_.scale / kFactor, options_.min_scale);
  return OkStatus();
}

void LossScaler::AfterSuccess() {
  if (options_.consecutive_hysteresis) state_.hysteresis_left = options_.hysteresis;
  ++state_.steps_since_change;
  // DeepSpeed counts the steps between the last overflow and this one, without either.
  uint64_t stable = state_.steps_since_change - 1;
  if (stable == 0 || stable % options_.window != 0) return;
  state_.hysteresis_left = options_.hysteresis;
  state_.scale *= kFactor;
}

}  // namespace strata::engine
