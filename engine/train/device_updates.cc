#include "engine/train/device_updates.h"

#include <array>
#include <cmath>
#include <cstdlib>

namespace strata::engine {
namespace {

constexpr std::array kRatios = {0.75, 0.5, 0.25, 0.0};
// Less is within what a simulation is off by.
constexpr double kWorthwhile = 0.02;

}  // namespace

uint32_t DeviceUpdates(const StateLayout& layout, double ratio) {
  const double wanted = (1 - ratio) * static_cast<double>(layout.num_shard_elements());
  double taken = 0;
  uint32_t count = 0;
  while (count < layout.units.size()) {
    const double with = taken + static_cast<double>(layout.units[count].shard_elements);
    if (std::abs(with - wanted) > std::abs(taken - wanted)) break;
    taken = with;
    ++count;
  }
  return count;
}

double CpuShare(const StateLayout& layout, uint32_t num_device_updates) {
  uint64_t on_device = 0;
  for (uint32_t unit = 0; unit < num_device_updates && unit < layout.units.size(); ++unit)
    on_device += layout.units[unit].shard_elements;
  return 1 - static_cast<double>(on_device) / static_cast<double>(layout.num_shard_elements());
}

uint32_t BestDeviceUpdates(const StateLayout& layout,
                           const std::function<std::optional<double>(uint32_t)>& step_seconds) {
  const std::optional<double> on_cpu = step_seconds(0);
  uint32_t best = 0;
  double least = on_cpu ? *on_cpu * (1 - kWorthwhile) : INFINITY;
  for (double ratio : kRatios) {
    const uint32_t count = DeviceUpdates(layout, ratio);
    const std::optional<double> step_s = step_seconds(count);
    if (!step_s || *step_s >= least) continue;
    best = count;
    least = *step_s;
  }
  return best;
}

}  // namespace strata::engine
