#include "engine/config/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strata::engine {
namespace {

// At least 2, because ln(1) = 0 divides.
double WarmupSteps(const SchedulerConfig& config) {
  return static_cast<double>(std::max<uint64_t>(2, config.warmup_num_steps));
}

double WarmupProgress(const SchedulerConfig& config, double step) {
  double num_steps = WarmupSteps(config);
  if (step >= num_steps) return 1;
  if (config.warmup_type == WarmupType::kLinear) return step / num_steps;
  return std::log(step + 1) / std::log(num_steps);
}

double DecaySteps(const SchedulerConfig& config) {
  return std::max(1.0, static_cast<double>(config.total_num_steps) - WarmupSteps(config));
}

double LinearDecay(const SchedulerConfig& config, double step) {
  if (step < WarmupSteps(config)) return WarmupProgress(config, step);
  return std::max(0.0, (static_cast<double>(config.total_num_steps) - step) / DecaySteps(config));
}

double CosineRatio(const SchedulerConfig& config, double step) {
  double num_warmup_steps = WarmupSteps(config);
  if (step < num_warmup_steps) {
    double floor = config.warmup_min_ratio;
    return floor + (1 - floor) * WarmupProgress(config, step);
  }
  double progress = std::min(1.0, (step - num_warmup_steps + 1) / DecaySteps(config));
  double cosine = (1 + std::cos(std::numbers::pi * progress)) / 2;
  return std::max(0.0, config.cos_min_ratio + (1 - config.cos_min_ratio) * cosine);
}

double Between(const SchedulerConfig& config, double progress) {
  return config.warmup_min_lr + (config.warmup_max_lr - config.warmup_min_lr) * progress;
}

}  // namespace

double LearningRate(const SchedulerConfig& config, double base_lr, uint64_t step) {
  double it = static_cast<double>(step);
  switch (config.type) {
    case SchedulerType::kConstant:
      return base_lr;
    case SchedulerType::kWarmupLr:
      return Between(config, WarmupProgress(config, it));
    case SchedulerType::kWarmupDecayLr:
      return Between(config, LinearDecay(config, it));
    case SchedulerType::kWarmupCosineLr:
      return base_lr * CosineRatio(config, it);
  }
  return base_lr;
}

}  // namespace strata::engine
