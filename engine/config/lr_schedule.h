// The learning rate as a pure function of the step, with DeepSpeed's schedules and key names, so
// that a resumed run needs no scheduler state.
#pragma once

#include <cstdint>

namespace strata::engine {

enum class SchedulerType : uint8_t { kConstant, kWarmupLr, kWarmupDecayLr, kWarmupCosineLr };

// How the warm-up rises from 0 at the first step to 1 at step N = max(2, warmup_num_steps).
enum class WarmupType : uint8_t {
  kLog,     // ln(step + 1) / ln(N)
  kLinear,  // step / N
};

struct SchedulerConfig {
  SchedulerType type = SchedulerType::kConstant;
  uint64_t warmup_num_steps = 1000;
  WarmupType warmup_type = WarmupType::kLog;
  // WarmupLR and WarmupDecayLR, which do not look at the optimizer's rate.
  double warmup_min_lr = 0;
  double warmup_max_lr = 0.001;
  // WarmupDecayLR and WarmupCosineLR: the step at which the decay ends.
  uint64_t total_num_steps = 0;
  // WarmupCosineLR, as fractions of the optimizer's rate.
  double warmup_min_ratio = 0;
  double cos_min_ratio = 0.0001;

  friend bool operator==(const SchedulerConfig&, const SchedulerConfig&) = default;
};

// The rate of step `step`, counted from 0. base_lr is [optimizer] lr.
double LearningRate(const SchedulerConfig& config, double base_lr, uint64_t step);

}  // namespace strata::engine
